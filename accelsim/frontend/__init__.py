"""Models and files to networks: the only floor that imports torch, and only where a model in PyTorch asks for it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .host import host_kernels
    from .reference import record_eager_values, record_run, record_values
    from .roads import extract, runnable

_HOME = {
    "extract": "roads",
    "host_kernels": "host",
    "record_eager_values": "reference",
    "record_run": "reference",
    "record_values": "reference",
    "runnable": "roads",
}

__all__ = ["extract", "host_kernels", "record_eager_values", "record_run", "record_values", "runnable"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'accelsim.frontend' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
