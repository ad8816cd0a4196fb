"""TorchScript models from files. Such a file executes code when it is loaded and when it is run."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch

from accelsim.errors import FormatError

from .recording import quantized_engine


def load_script(path: str | Path, engine: str | None = None) -> Any:
    """A TorchScript module, its parameters packed for `engine` (by default PyTorch's own setting).

    Code in the file runs, with all rights of this process: that the file is trusted is the caller's responsibility.
    Raises FormatError for a file that holds none.
    """
    with contextlib.nullcontext() if engine is None else quantized_engine(engine):
        under = torch.backends.quantized.engine
        try:
            return torch.jit.load(str(path), map_location="cpu")
        except Exception as error:  # PyTorch's parsers and the file's own code raise what they like
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            # TorchScript's errors begin with a traceback, and end with what went wrong.
            last = [line for line in lines if line.startswith("RuntimeError:")]
            reason = [*last, *lines, type(error).__name__][0][:300]
            raise FormatError(
                f"{path}: TorchScript that cannot be loaded under the engine {under} ({reason}); --engine names "
                "another; torch.jit.save writes a new file"
            ) from None
