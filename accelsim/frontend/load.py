"""Models from files that PyTorch wrote."""

from __future__ import annotations

from typing import Any

import torch

from accelsim.errors import FormatError


def load_script(path: str) -> Any:
    """A TorchScript module, in evaluation mode. Raises FormatError for a file that holds none."""
    try:
        return torch.jit.load(path, map_location="cpu").eval()
    except (RuntimeError, OSError, ValueError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise FormatError(f"{path}: neither a TorchScript file nor one that accelsim wrote ({reason})") from None
