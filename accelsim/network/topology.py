"""Networks of shapes alone: a topology in the CSV form of SCALE-Sim, for timing. Weights are random, and seeded.

A convolution is a row `name, input height, input width, kernel height, kernel width, channels, outputs, stride`, or two
strides, down and across; the input's padding is part of its size. A matrix product is `name, M, N, K`: M rows of K
elements times K x N weights. The first line names the columns. Each layer reads an input of its own: a topology does
not say who reads whom.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.errors import FormatError
from accelsim.reading import read_text, regular_file, shown

from .graph import Convolution, Linear, Network, Value, Weights

_BYTES = 1 << 20
#: Of one size, and of the weights of all layers together, in bytes.
_LARGEST_SIZE, _MOST_WEIGHTS = 1 << 16, 1 << 28

_PRODUCT = ("m", "n", "k")
_CONVOLUTION = (
    "input height",
    "input width",
    "kernel height",
    "kernel width",
    "channels",
    "outputs",
    "stride",
    "stride across",
)


def is_topology(path: str | Path) -> bool:
    """Whether a file is text whose first line names the columns of a topology."""
    try:
        regular_file(path)
        with open(path, encoding="utf-8") as file:
            first = file.readline(1000)
    except (OSError, ValueError):
        return False
    return first.strip().lower().startswith("layer") and first.count(",") >= len(_PRODUCT)


def read_topology(path: str | Path, seed: int = 0) -> Network:
    """The network of a topology's layers, its weights drawn from `seed`. Raises FormatError naming file and line."""
    try:
        lines = list(csv.reader(read_text(path, _BYTES).splitlines()))
    except (ValueError, csv.Error) as error:
        raise FormatError(f"{path}: cannot be read ({error}); give a topology as CSV") from None
    random, weights = np.random.default_rng(seed), 0
    values: dict[str, Value] = {}
    nodes: list[Convolution | Linear] = []
    for number, cells in enumerate(lines[1:], 2):
        cells = [cell.strip() for cell in cells]
        while cells and not cells[-1]:
            cells.pop()
        if not cells:
            continue
        name, sizes = _row(f"{path}: line {number}", cells)
        name = _new(name, values)
        weights += math.prod(sizes[1:]) if len(sizes) == len(_PRODUCT) else math.prod(sizes[2:6])
        if weights > _MOST_WEIGHTS:
            raise FormatError(f"{path}: line {number}: all weights up to here take over {_MOST_WEIGHTS:,} bytes")
        node, given, made = _layer(name, sizes, random)
        nodes.append(node)
        values |= {given.name: given, made.name: made}
    if not nodes:
        raise FormatError(f"{path}: has no layer; a row is a name and {', '.join(_CONVOLUTION[:-1])}, or M, N, K")
    return Network(
        "fbgemm",
        KernelSet("uniform", "vnni"),
        values,
        tuple(nodes),
        tuple(node.inputs[0] for node in nodes),
        tuple(node.name for node in nodes),
        name=Path(path).stem,
        notes=(f"shapes alone: weights are random, drawn from seed {seed}",),
    )


def _row(where: str, cells: list[str]) -> tuple[str, list[int]]:
    """Name and sizes of a layer, two strides for a convolution."""
    name, *texts = cells
    kinds = {len(_PRODUCT): _PRODUCT, len(_CONVOLUTION) - 1: _CONVOLUTION, len(_CONVOLUTION): _CONVOLUTION}
    if len(texts) not in kinds:
        raise FormatError(
            f"{where}: {len(texts)} sizes; a convolution has {', '.join(_CONVOLUTION[:-1])}, "
            "a product of matrices M, N, K"
        )
    sizes = []
    for what, text in zip(kinds[len(texts)], texts, strict=False):
        if not (text.isascii() and text.isdigit()) or len(text) > 9 or not 1 <= int(text) <= _LARGEST_SIZE:
            raise FormatError(f"{where}: {what} is {shown(text)}; it takes an integer from 1 to {_LARGEST_SIZE:,}")
        sizes.append(int(text))
    if len(sizes) == len(_CONVOLUTION) - 1:
        sizes.append(sizes[-1])
    if len(sizes) == len(_CONVOLUTION) and (sizes[2] > sizes[0] or sizes[3] > sizes[1]):
        raise FormatError(
            f"{where}: the kernel of {sizes[2]} x {sizes[3]} is larger than the input of {sizes[0]} x {sizes[1]}, "
            "whose padding is part of its size"
        )
    return name, sizes


def _new(name: str, values: dict[str, Value]) -> str:
    """The name, or the name with the first number that makes it a new one."""
    name, number = name or "layer", 2
    found = name
    while found in values or f"{found}.input" in values:
        found, number = f"{name}_{number}", number + 1
    return found


def _layer(name: str, sizes: list[int], random: np.random.Generator) -> tuple[Convolution | Linear, Value, Value]:
    """The layer, its input and its output. Codes are uint8, weights int8 with a scale; nothing saturates at once."""
    shape: tuple[int, ...]
    result: tuple[int, ...]
    if len(sizes) == len(_PRODUCT):
        rows, outputs, reduction = sizes
        codes = random.integers(-127, 128, (outputs, reduction), np.int8)
        shape, result = (rows, reduction), (rows, outputs)
    else:
        height, width, down, across, channels, outputs, stride_y, stride_x = sizes
        codes = random.integers(-127, 128, (outputs, channels, down, across), np.int8)
        shape = (1, channels, height, width)
        result = (1, outputs, (height - down) // stride_y + 1, (width - across) // stride_x + 1)
    source = Affine(1 / 64, 128, "uint8")
    spread = (1 / 64) * 0.01 * 74 * 74 * math.sqrt(codes[0].size)  # of a sum of random codes
    made = Affine(spread / 32, 128, "uint8")
    weights = Weights(codes, np.array([0.01]), np.array([0], np.int32), False, None)
    values = (
        Value(f"{name}.input", shape, source, tuple(range(len(shape)))),
        Value(name, result, made, tuple(range(len(result)))),
    )
    if len(sizes) == len(_PRODUCT):
        return Linear(name, (values[0].name,), weights), *values
    return (
        Convolution(name, (values[0].name,), weights, (stride_y, stride_x), ((0, 0), (0, 0)), (1, 1)),
        *values,
    )
