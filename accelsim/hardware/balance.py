"""Whether the memories and the requant unit of a configuration keep up with its array."""

from __future__ import annotations

from dataclasses import dataclass

from .configuration import Accelerator


@dataclass(frozen=True)
class Shortage:
    """A `key` whose `value` is less than `needed`, the value of the key `of`."""

    key: str
    value: int
    needed: int
    of: str

    def __str__(self) -> str:
        return f"{self.key} = {self.value} is less than {self.of} = {self.needed}"


def shortages(accelerator: Accelerator) -> tuple[Shortage, ...]:
    """Banks and lanes that serve the array less than a word a row or column and cycle.

    A vector takes an activation a row, and a sum a column. Weights enter by columns; where the inputs are stationary,
    by rows. (docs/architecture.md, "How a tile lies on the array")
    """
    array, buffers = accelerator.mac_array, accelerator.buffers
    by_rows = array.dataflow == "input_stationary"
    rows, columns = (array.rows, "mac_array.rows"), (array.columns, "mac_array.columns")
    pairs = (
        ("buffers.activation.banks", buffers.activation.banks, rows),
        ("buffers.weight.banks", buffers.weight.banks, rows if by_rows else columns),
        ("buffers.accumulator.banks", buffers.accumulator.banks, columns),
        ("requant_unit.lanes", accelerator.requant_unit.lanes, columns),
    )
    return tuple(Shortage(key, value, *needed) for key, value, needed in pairs if value < needed[0])
