"""What a tensor of an ONNX graph stands for while the graph is gone through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.binary32 import Float32
from accelsim.network import Node

if TYPE_CHECKING:
    from .builder import Builder

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Move:
    """A pure movement of elements to a tensor of that shape; `node` makes it, given a name and what it reads."""

    node: Callable[[str, tuple[str, ...]], Node]
    shape: Shape
    label: str


@dataclass(frozen=True)
class Codes:
    """8-bit codes: the value of that name."""

    name: str


@dataclass(frozen=True)
class Real:
    """Real numbers: `values` (256,) gives that of every code (by its byte) of the value `name`.

    `steps`: the float operators that were applied after dequantising. `detached`: an operator moved the numbers over
    which ONNX Runtime does not carry the DequantizeLinear, so that what reads them computes in float.
    """

    name: str
    values: Float32
    steps: tuple[str, ...] = ()
    detached: bool = False

    @property
    def plain(self) -> bool:
        """Whether nothing but dequantising was done to the codes."""
        return not self.steps


@dataclass(frozen=True)
class GraphInput:
    """An input of the graph, floats or codes, before anything says by which affine map; after some movements."""

    position: int
    shape: Shape
    moves: tuple[Move, ...] = ()

    def moved(self, move: Move) -> GraphInput:
        """The same after one more movement."""
        return replace(self, shape=move.shape, moves=(*self.moves, move))


@dataclass(frozen=True)
class Constant:
    """An array that the file holds, or that follows from its arrays and shapes."""

    array: np.ndarray


@dataclass(frozen=True)
class Parameter:
    """A dequantised constant: `codes` of 8 or 32 bits; scales and zero points of length 1, or one along `axis`."""

    codes: np.ndarray
    scale: Float32
    zero_point: np.ndarray
    axis: int | None = None


@dataclass(frozen=True)
class Pending:
    """Real numbers that get their codes where they are quantised: a sum, a product, an average.

    `emit` makes the node (named `name`) for an output's affine map, with or without a ReLU, and returns its value's
    name. A clamp from above, and movements, come after it; `detached` as in `Real`, of the QuantizeLinear.
    """

    name: str
    operator: str
    shape: Shape
    emit: Callable[[Builder, str, Affine, bool], str]
    relu: bool = False
    ceiling: float | None = None
    moves: tuple[Move, ...] = field(default=())
    detached: bool = False

    def moved(self, move: Move, *, detached: bool = False) -> Pending:
        """The same after one more movement."""
        detached = detached or self.detached
        return replace(self, shape=move.shape, moves=(*self.moves, move), detached=detached)


Reference = Codes | Real | GraphInput | Constant | Parameter | Pending
