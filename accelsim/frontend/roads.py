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
    ONNX (`accelsim.frontend.onnx`), or a topology as CSV, shapes alone, for timing (`accelsim.network.topology`).
    `example_input`: a tensor (or array), a tuple for several inputs; its shapes become the network's. For a file that
    states all sizes it may be left out. `engine`: whose arithmetic is meant. `lanes`: of PyTorch's kernel sets the one
    that is meant; ONNX Runtime's rules hold for every element.
    Raises ModelError, FormatError or InputError.
    """
    if isinstance(model, str | Path) and is_topology(model):
        return read_topology(model)
    if isinstance(model, str | Path):
        from .onnx import extract_onnx, is_onnx

        if not is_onnx(model):
            what = "no ONNX file" if Path(model).is_file() else "no such file"
            raise FormatError(
                f"{model}: {what}; give the path of an ONNX file or of a topology (CSV), or a model in PyTorch"
            )
        return extract_onnx(model, example_input, engine=engine)
    if example_input is None:
        raise InputError("a model in PyTorch is recorded on an example input; give a tensor or a tuple of tensors")
    pytorch()
    from .extraction import extract as recorded

    return recorded(model, example_input, engine=engine, lanes=lanes)
