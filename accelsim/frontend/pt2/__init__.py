"""The door for .pt2 files: a quantised torch.export graph that was saved, of which nothing but tensor operators is run.

What is built is a module that makes the calls of the file's graph. It is recorded as a live graph (PT2E) is, so that
both become the same network.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsim.errors import InputError
from accelsim.frontend.archive import EXPORTED, archive_kind
from accelsim.frontend.packages import pytorch
from accelsim.network import Network

from .container import Program, read

if TYPE_CHECKING:
    import torch

    from accelsim.arithmetic.engines import KernelSet

    from .module import StoredProgram

__all__ = ["extract_pt2", "is_pt2", "open_pt2"]


def is_pt2(path: str | Path) -> bool:
    """Whether a file's content is that of a program that torch.export saved."""
    return archive_kind(path) == EXPORTED


def extract_pt2(
    path: str | Path, example_input: Any = None, *, engine: str | None = None, lanes: str | KernelSet = "host"
) -> Network:
    """The network of a .pt2 file.

    `example_input`: a tensor (or array), a tuple for several inputs; where it is left out the file's own, or numbers of
    the shapes that the file states. Raises FormatError for a file that is damaged or says what is not so, InputError
    for an example that does not fit, and ModelError as `accelsim.extract` does for a model.
    """
    from accelsim.frontend.extraction import extract

    model, inputs = open_pt2(path, example_input)
    return replace(extract(model, inputs, engine=engine, lanes=lanes), name=Path(path).stem)


def open_pt2(path: str | Path, example_input: Any = None) -> tuple[StoredProgram, tuple[torch.Tensor, ...]]:
    """The file's program as a module, and inputs of the shapes for which it was checked: the given ones or the file's.

    Raises as `extract_pt2` does, but for the model's operators.
    """
    pytorch()
    from accelsim.frontend.extraction import tensors_of

    from .module import StoredProgram

    program = read(path)
    model = StoredProgram(program)
    inputs = tensors_of(_example(program) if example_input is None else example_input)
    model.check(inputs, 0 if example_input is None else sum(t.numel() * t.element_size() for t in inputs))
    return model, inputs


def _example(program: Program) -> tuple[np.ndarray, ...]:
    """The input that a program was exported with, or normal numbers (seeded) of the shapes that the file states.

    Raises InputError where the file has neither.
    """
    if program.example is not None:
        return program.example
    random, made = np.random.default_rng(0), []
    for name in program.inputs:
        meta = program.metas[name]
        if None in meta.hint or meta.dtype != "float32":
            raise InputError(
                f"{program.path}: input {name!r} has no fixed shape of float32 in the file, and no example; give one "
                "(on the command line: --input)"
            )
        made.append(random.standard_normal(tuple(int(size or 0) for size in meta.hint)).astype(np.float32))
    return tuple(made)
