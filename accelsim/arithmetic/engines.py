"""Whose arithmetic is meant: PyTorch's quantised engines, and the sets of kernels that a host's processor selects."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from accelsim.errors import ModelError

ENGINES = ("fbgemm", "qnnpack", "x86", "onednn")

AtenKernels = Literal["default", "avx2", "avx512", "uniform"]
MatrixKernels = Literal["avx2", "avx512", "vnni"]


@dataclass(frozen=True)
class KernelSet:
    """`aten`: element-wise operators and pools; `matrix`: convolutions and linear layers (fbgemm, oneDNN).

    "uniform" is one rule for every lane, which no host has: the rule of the vector body of AVX2.
    """

    aten: AtenKernels
    matrix: MatrixKernels

    def to_json(self) -> dict[str, str]:
        """A JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> KernelSet:
        """The kernel set that `to_json` wrote. Raises ModelError for names that there are not."""
        aten: Any = value.get("aten")
        matrix: Any = value.get("matrix")
        if aten not in get_args(AtenKernels) or matrix not in get_args(MatrixKernels) or len(value) != 2:
            allowed = f"aten {', '.join(get_args(AtenKernels))}; matrix {', '.join(get_args(MatrixKernels))}"
            raise ModelError(f"no kernel set is {value}; there are {allowed}")
        return cls(aten, matrix)


def check_engine(engine: str) -> str:
    """`engine` itself. Raises ModelError if there is none of that name."""
    if engine not in ENGINES:
        raise ModelError(f"no engine is named {engine!r}; the engines are {', '.join(ENGINES)}")
    return engine
