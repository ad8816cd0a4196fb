"""Whose arithmetic is meant: PyTorch's quantised engines, and the sets of kernels that a host's processor selects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ENGINES = ("fbgemm", "qnnpack", "x86", "onednn")


@dataclass(frozen=True)
class KernelSet:
    """`aten`: element-wise operators and pools; `matrix`: convolutions and linear layers (fbgemm, oneDNN).

    "uniform" is one rule for every lane, which no host has.
    """

    aten: Literal["default", "avx2", "avx512", "uniform"]
    matrix: Literal["avx2", "avx512", "vnni"]
