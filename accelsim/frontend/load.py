"""Models from files that PyTorch wrote."""

from __future__ import annotations

import zipfile
from typing import Any

import torch

from accelsim.errors import FormatError


def load_script(path: str) -> Any:
    """A TorchScript module, in evaluation mode. Raises FormatError for a file that holds none."""
    if _is_exported(path):
        raise FormatError(
            f"{path}: a program that torch.export saved, which PyTorch reads with pickle: such a file can execute "
            f"anything. Give the graph as module:callable, one that returns (torch.export.load(...).module(), input)"
        )
    try:
        return torch.jit.load(path, map_location="cpu").eval()
    except (RuntimeError, OSError, ValueError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise FormatError(f"{path}: neither a TorchScript file nor one that accelsim wrote ({reason})") from None


def _is_exported(path: str) -> bool:
    """Whether a file is an archive of torch.export, which names its format in an entry of its own."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.rpartition("/")[2] == "archive_format" for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
