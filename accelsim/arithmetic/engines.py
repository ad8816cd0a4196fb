"""Whose arithmetic is meant (of PyTorch, ONNX Runtime, XNNPACK), and the kernel sets that a processor selects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from accelsim.errors import ModelError

ENGINES = ("fbgemm", "qnnpack", "x86", "onednn")

#: The arithmetic of a torch.export graph's lowering, in the place of an engine: `torch.backends.quantized` has no say.
PT2E = "pt2e"

#: The arithmetic of ONNX graphs: that of ONNX Runtime's CPU provider.
ONNXRUNTIME = "onnxruntime"

#: The arithmetic of torch.export graphs with int8 activations: XNNPACK's, as ExecuTorch drives it.
XNNPACK = "xnnpack"

#: Whose arithmetic a torch.export graph can have.
EXPORTED = (PT2E, XNNPACK)

#: Whatever a network's engine can be.
ARITHMETICS = (*ENGINES, PT2E, ONNXRUNTIME, XNNPACK)

AtenKernels = Literal["default", "avx2", "avx512", "uniform"]
MatrixKernels = Literal["avx2", "avx512", "vnni"]


@dataclass(frozen=True)
class KernelSet:
    """`aten`: element-wise operators and pools; `matrix`: convolutions and linear layers (fbgemm, oneDNN).

    "uniform" is one rule for every lane, which no host has: the rule of the vector body of AVX2.
    """

    aten: AtenKernels
    matrix: MatrixKernels


def check_engine(engine: str) -> str:
    """`engine` itself. Raises ModelError if there is none of that name."""
    if engine not in ARITHMETICS:
        raise ModelError(f"no engine is named {engine!r}; the engines are {', '.join(ARITHMETICS)}")
    return engine


def check_qnnpack_scale(scale: float) -> None:
    """Raises ModelError for the scales with which QNNPACK makes no operator."""
    with np.errstate(over="ignore", under="ignore"):
        single = np.float32(scale)
    if not np.finfo(np.float32).tiny <= single < np.inf:
        raise ModelError(f"QNNPACK takes no scale of {scale}: it must be a normal binary32 number; choose another")
