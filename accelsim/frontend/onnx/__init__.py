"""ONNX to network: the door for quantised ONNX files (QDQ and QOperator form), whose arithmetic is ONNX Runtime's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from accelsim.arithmetic.engines import ONNXRUNTIME
from accelsim.errors import FormatError, InputError, ModelError
from accelsim.network import Network
from accelsim.network.rounding import check_roundings

from .builder import Builder
from .container import Call, Graph, is_onnx, read
from .folding import fold
from .operators import OPERATORS
from .references import Constant, Shape

__all__ = ["extract_onnx", "is_onnx"]


def extract_onnx(path: str | Path, example_input: Any = None, *, engine: str | None = None) -> Network:
    """The network of a quantised ONNX file; nothing in the file is executed.

    `example_input`: an array, or a tuple for several inputs; its shapes take the place of the file's, and may be left
    out where the file states all sizes. `engine`: "onnxruntime" is the only one. Raises FormatError for a file that is
    damaged, InputError for an example that does not fit, ModelError naming the node that no integer node stands for.
    """
    if engine not in (None, ONNXRUNTIME):
        raise ModelError(
            f"engine {engine!r}: {path} is an ONNX file, whose arithmetic is {ONNXRUNTIME!r}; name no engine"
        )
    graph = read(path)
    builder = Builder(graph, _shapes(graph, example_input))
    for call in graph.calls:
        _visit(builder, call)
    network = builder.network()
    check_roundings(network)
    return network


def _visit(builder: Builder, call: Call) -> None:
    references = [builder.reference(call, place) for place in range(len(call.inputs))]
    if all(reference is None or isinstance(reference, Constant) for reference in references):
        folded = fold(call, [None if reference is None else reference.array for reference in references])  # type: ignore[union-attr]
        if folded is not None:
            return builder.assign(call, Constant(folded))
    handler = OPERATORS.get(call.operator)
    if handler is None:
        raise ModelError(
            f"{call.where}: this operator is not read; replace it in the model, or see docs/onnx.md for those that are"
        )
    try:
        return handler(builder, call)
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise FormatError(
            f"{call.where}: its operands or attributes are not those of this operator ({error}); export the model again"
        ) from error


def _shapes(graph: Graph, example: Any) -> list[Shape]:
    """The shapes of the inputs: the example's, or the file's."""
    if example is None:
        for item in graph.inputs:
            if None in item.shape:
                raise InputError(
                    f"input {item.name!r} has the shape {item.shape} in the file, in which a size is not fixed; give "
                    "an example input (on the command line: --input)"
                )
        return [tuple(int(size or 0) for size in item.shape) for item in graph.inputs]
    given = [np.shape(part) for part in (example if isinstance(example, tuple) else (example,))]
    if len(given) != len(graph.inputs):
        names = ", ".join(item.name for item in graph.inputs)
        raise InputError(f"{len(given)} example inputs; the graph has {len(graph.inputs)} ({names})")
    for item, shape in zip(graph.inputs, given, strict=True):
        fits = len(shape) == len(item.shape) and all(
            size in (None, own) for size, own in zip(item.shape, shape, strict=True)
        )
        if not fits:
            raise InputError(f"input {item.name!r}: an example of shape {shape}; the file says {item.shape}")
    return [tuple(shape) for shape in given]
