"""Which of PyTorch's kernels this process runs, and which kernel set a `lanes` argument stands for."""

from __future__ import annotations

import os
from typing import get_args

import torch

from accelsim.arithmetic.engines import PT2E, AtenKernels, KernelSet, MatrixKernels
from accelsim.errors import ModelError

LANES = ("host", *get_args(AtenKernels))

#: What the names that FBGEMM and oneDNN read from the environment mean; anything else leaves the choice to them.
_FBGEMM: dict[str, MatrixKernels] = {
    "AVX2": "avx2",
    "AVX512": "avx512",
    "AVX512_256": "avx512",
    "AVX512_E1": "vnni",
    "AVX512_E1_256": "vnni",
}
_ONEDNN: dict[str, MatrixKernels] = {
    "SSE41": "avx2",
    "AVX": "avx2",
    "AVX2": "avx2",
    "AVX2_VNNI": "avx2",
    "AVX2_VNNI_2": "avx2",
    "AVX512_CORE": "avx512",
}
_ORDER: tuple[MatrixKernels, ...] = ("avx2", "avx512", "vnni")


def aten_kernels() -> AtenKernels:
    """The kernel set of ATen's element-wise operators and pools in this process."""
    capability = torch.backends.cpu.get_cpu_capability()
    names: dict[str, AtenKernels] = {"AVX2": "avx2", "AVX512": "avx512"}
    return names.get(capability, "default")


def matrix_kernels(engine: str) -> MatrixKernels:
    """The kernel set of the engine's convolutions and linear layers in this process.

    The processor decides, unless FBGEMM_ENABLE_INSTRUCTIONS (fbgemm) or ONEDNN_MAX_CPU_ISA (onednn) asks for less.
    For x86 ATen asks the processor alone whether there is VNNI. Without FBGEMM's AVX-512 the exact sums, and with them
    the results apart from saturation, are the same; "vnni" also says that sums of products do not saturate.
    """
    has_vnni = torch.cpu._is_vnni_supported()
    has_avx512 = torch.cpu._is_avx512_supported()
    processor: MatrixKernels = "vnni" if has_vnni else "avx512" if has_avx512 else "avx2"
    asked = processor
    if engine == "fbgemm":
        asked = _FBGEMM.get(os.environ.get("FBGEMM_ENABLE_INSTRUCTIONS", "").upper(), processor)
    elif engine in ("onednn", PT2E):
        asked = _ONEDNN.get(os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper(), processor)
    return min(asked, processor, key=_ORDER.index)


def host_kernels(engine: str) -> KernelSet:
    """The kernel set that PyTorch uses in this process for that engine."""
    return KernelSet(aten_kernels(), matrix_kernels(engine))


def kernels_for(lanes: str | KernelSet, engine: str) -> KernelSet:
    """The kernel set that `lanes` stands for: "host" all of the host's, another name that set of ATen's kernels.

    A `KernelSet` stands for itself. Raises ModelError for another name.
    """
    if isinstance(lanes, KernelSet):
        return lanes
    if lanes not in LANES:
        raise ModelError(f"lanes={lanes!r}: unknown kernel set; allowed are {', '.join(LANES)}")
    host = host_kernels(engine)
    for name in get_args(AtenKernels):
        if lanes == name:
            return KernelSet(name, host.matrix)
    return host
