"""Packages that only some roads need, and what is said where one is missing."""

from __future__ import annotations

import importlib
import re
import warnings
from typing import Any

from accelsim.errors import ModelError

#: The newest PyTorch that the rules were compared with, kernel by kernel.
TESTED = (2, 13)


def package(name: str, what: str) -> Any:
    """The package of that name, which is also the extra that installs it. Raises ModelError, naming `what` needs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != name:
            raise  # it is there, and lacks something of its own
        raise ModelError(f"{what} need the package {name}, which is not installed: {remedy(name)}") from None


def remedy(name: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'accelsim[{name}]'"


def pytorch() -> Any:
    """PyTorch. Warns, once in a process, of one that is newer than the rules were compared with. Raises ModelError."""
    torch = package("torch", "models in PyTorch")
    found = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if found is not None and (int(found[1]), int(found[2])) > TESTED:
        warnings.warn(
            f"PyTorch {torch.__version__} is newer than {TESTED[0]}.{TESTED[1]}, with which accelsim was compared; "
            "`accelsim selftest` compares every rule with this one's kernels, and `accelsim verify` your model",
            stacklevel=2,
        )
    return torch
