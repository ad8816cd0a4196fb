"""The roads that lead into a network, one door each: a model in PyTorch, or a file, told apart by its content."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelsim.errors import FormatError, InputError
from accelsim.network import Network
from accelsim.network.topology import is_topology, read_topology

from .packages import pytorch

if TYPE_CHECKING:
    from accelsim.arithmetic.engines import KernelSet


def extract(
    model: Any, example_input: Any = None, *, engine: str | None = None, lanes: str | KernelSet = "host"
) -> Network:
    """The integers of a quantised model as a network.

    `model`: a model in PyTorch (`accelsim.frontend.extraction`), or the path of a file in which nothing is executed:
    ONNX (`accelsim.frontend.onnx`), a program that torch.export saved (.pt2, `accelsim.frontend.pt2`), or a topology as
    CSV, shapes alone, for timing (`accelsim.network.topology`).
    `example_input`: a tensor (or array), a tuple for several inputs; its shapes become the network's. For a file that
    states all sizes it may be left out. `engine`: whose arithmetic is meant. `lanes`: of PyTorch's kernel sets the one
    that is meant; ONNX Runtime's rules hold for every element.
    Raises ModelError, FormatError or InputError.
    """
    if isinstance(model, str | Path) and is_topology(model):
        return read_topology(model)
    if isinstance(model, str | Path):
        return _from_file(model, example_input, engine, lanes)
    if example_input is None:
        raise InputError("a model in PyTorch is recorded on an example input; give a tensor or a tuple of tensors")
    pytorch()
    from .extraction import extract as recorded

    return recorded(model, example_input, engine=engine, lanes=lanes)


def runnable(model: Any, example: tuple[Any, ...]) -> Any:
    """A model in PyTorch: `model` itself, or what the .pt2 file of that path holds, for inputs of these shapes."""
    from .pt2 import is_pt2, open_pt2

    return open_pt2(model, example)[0] if isinstance(model, str | Path) and is_pt2(model) else model


def _from_file(path: str | Path, example_input: Any, engine: str | None, lanes: str | KernelSet) -> Network:
    from .archive import SCRIPT, archive_kind
    from .onnx import extract_onnx, is_onnx
    from .pt2 import extract_pt2, is_pt2

    if is_pt2(path):
        return extract_pt2(path, example_input, engine=engine, lanes=lanes)
    if is_onnx(path):
        return extract_onnx(path, example_input, engine=engine)
    if archive_kind(path) == SCRIPT:
        raise FormatError(
            f"{path}: a TorchScript file, which executes code when it is loaded; if you trust whoever made it, give "
            "torch.jit.load(path), loaded while torch.backends.quantized.engine is the one that it was made for"
        )
    what = "no model that can be read" if Path(path).is_file() else "no such file"
    raise FormatError(
        f"{path}: {what}; give the path of an ONNX file, a .pt2 file (torch.export.save) or a topology (CSV), or a "
        "model in PyTorch"
    )
