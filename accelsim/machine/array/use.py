"""What the cells of the MAC array do in its busy cycles: how many multiply, and why the others are empty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from accelsim.hardware import Accelerator
from accelsim.hardware.folds import pieces
from accelsim.isa import Mac

from .timing import Tile, tile_of


@dataclass(frozen=True, kw_only=True)
class ArrayUse:
    """Sums over the vectors of some MAC instructions; each vector is one busy cycle of the array.

    `rows_used` and `columns_used` are summed over the vectors. `working`, `empty_rows`, `empty_columns` and
    `empty_between` count cells, summed over the vectors, and add up to `vectors * rows * columns` of the array: cells
    with a product of the layer (padding included); cells of rows that the fold leaves free; cells of free columns in
    the rows that it uses; and cells in between, which belong to another group's or another unrolled pixel's terms, or
    to pixels beyond the end of a line. `unroll_pixels` and `unroll_groups` are the largest of any instruction.
    """

    folds: int = 0
    vectors: int = 0
    rows_used: int = 0
    columns_used: int = 0
    working: int = 0
    empty_rows: int = 0
    empty_columns: int = 0
    empty_between: int = 0
    unroll_pixels: int = 0
    unroll_groups: int = 0

    @property
    def rows(self) -> float:
        """Rows that a vector uses, on average."""
        return self.rows_used / self.vectors if self.vectors else 0.0

    @property
    def columns(self) -> float:
        """Columns that a vector uses, on average."""
        return self.columns_used / self.vectors if self.vectors else 0.0

    @property
    def vectors_per_fold(self) -> float:
        """Vectors that stream past one filling of the array, on average."""
        return self.vectors / self.folds if self.folds else 0.0

    @property
    def empty(self) -> int:
        """Cells without work, summed over the vectors."""
        return self.empty_rows + self.empty_columns + self.empty_between


def array_use(macs: Iterable[Mac], accelerator: Accelerator) -> ArrayUse:
    """The sums over all of `macs`."""
    array = accelerator.mac_array
    size = array.rows * array.columns
    folds = vectors = rows = columns = taken = occupied = working = pixels = groups = 0
    for mac in macs:
        count, entered, in_rows, in_columns, cells = _tile_use(tile_of(mac, accelerator), array.dataflow)
        folds, vectors, occupied = folds + count, vectors + entered, occupied + cells
        rows, columns, taken = rows + in_rows, columns + in_columns, taken + in_rows * array.columns
        working += mac.macs
        pixels, groups = max(pixels, mac.unroll_pixels), max(groups, mac.unroll_groups)
    return ArrayUse(
        folds=folds,
        vectors=vectors,
        rows_used=rows,
        columns_used=columns,
        working=working,
        empty_rows=vectors * size - taken,
        empty_columns=taken - occupied,
        empty_between=occupied - working,
        unroll_pixels=pixels,
        unroll_groups=groups,
    )


@lru_cache(maxsize=8192)
def _tile_use(tile: Tile, dataflow: str) -> tuple[int, int, int, int, int]:
    """Folds, vectors, and rows, columns and cells that the folds use, each summed over the vectors."""
    folds = vectors = rows = columns = cells = 0
    for count, streamed, height, width in _FOLDS[dataflow](tile):
        entered = count * streamed
        folds, vectors = folds + count, vectors + entered
        rows, columns, cells = rows + entered * height, columns + entered * width, cells + entered * height * width
    return folds, vectors, rows, columns, cells


#: Folds that are alike: how many, vectors of each, rows and columns that they use.
_Folds = Iterator[tuple[int, int, int, int]]


def _weight_stationary(tile: Tile) -> _Folds:
    """A chunk of the reduction lies down the rows, outputs of each unrolled pixel across the columns."""
    for item in tile.sets:
        for columns, outputs in pieces(item.outputs, tile.columns):
            for chunk in item.chunks:
                yield item.count * columns * chunk.repeats, tile.vectors, chunk.rows, outputs * tile.unroll_pixels


def _output_stationary(tile: Tile) -> _Folds:
    """Vectors of pixels lie down the rows, outputs of each unrolled pixel across the columns; the reduction streams."""
    for item in tile.sets:
        for columns, outputs in pieces(item.outputs, tile.columns):
            for count, rows in pieces(tile.vectors, tile.rows):
                yield item.count * columns * count, item.reduction, rows, outputs * tile.unroll_pixels


def _input_stationary(tile: Tile) -> _Folds:
    """A chunk of the reduction lies down the rows, vectors of pixels across the columns; the outputs stream."""
    for item in tile.sets:
        for count, columns in pieces(tile.vectors, tile.columns):
            for chunk in item.chunks:
                yield item.count * count * chunk.repeats, item.outputs * tile.unroll_pixels, chunk.rows, columns


_FOLDS = {
    "weight_stationary": _weight_stationary,
    "output_stationary": _output_stationary,
    "input_stationary": _input_stationary,
}
