"""Pictures beside a result: one that cannot be drawn or written does not cost the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelsim.errors import AccelsimError, WriteError

from .output import Failures


def draw(make: Callable[[], Any], path: Path, failures: Failures) -> tuple[Path, ...]:
    """Write the figure that `make` returns; returns what was written, nothing where that failed."""
    with failures.kept():
        try:
            from accelsim.report.plots import save

            return save(make(), path)
        except AccelsimError:
            raise
        except Exception as error:  # whatever matplotlib, its fonts and its configuration raise
            raise WriteError(f"{path}: the picture cannot be drawn ({type(error).__name__}: {error})") from error
    return ()
