"""accelsim: a cycle-level simulator of a custom compute unit, equal to PyTorch's quantised kernels in every bit.

The names below are the public interface; each is imported when it is first used, so that a saved network or program
runs without loading torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compiler import compile
    from .errors import AccelsimError
    from .frontend import extract
    from .hardware import Accelerator
    from .isa import Program, assemble
    from .machine import Result, simulate
    from .network import Network, Output
    from .verification import Verification, verify

_HOME = {
    "Accelerator": "hardware",
    "AccelsimError": "errors",
    "Network": "network",
    "Output": "network",
    "Program": "isa",
    "Result": "machine",
    "Verification": "verification",
    "assemble": "isa",
    "compile": "compiler",
    "extract": "frontend",
    "simulate": "machine",
    "verify": "verification",
}

__version__ = "0.1.0"
__all__ = [
    "Accelerator",
    "AccelsimError",
    "Network",
    "Output",
    "Program",
    "Result",
    "Verification",
    "assemble",
    "compile",
    "extract",
    "simulate",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'accelsim' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted((*__all__, "__version__"))
