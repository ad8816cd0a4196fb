"""The roofline of a run: what array and DRAM allow at most, and where each layer lies below it."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.machine import Result


@dataclass(frozen=True, kw_only=True)
class Point:
    """A layer with MACs: `number` in the run, from 1; MACs a byte of DRAM (`intensity`) and a cycle (`rate`).

    `ceiling`: the MACs a cycle that array and DRAM allow at this intensity; `bound`: which of the two is the lower.
    """

    number: int
    name: str
    cycles: int
    intensity: float
    rate: float
    ceiling: float
    bound: str


@dataclass(frozen=True)
class Roofline:
    """`peak`: the array's MACs a cycle. `bandwidth`: DRAM's bytes a cycle."""

    peak: int
    bandwidth: float
    points: tuple[Point, ...]


def roofline(result: Result) -> Roofline:
    """The roofline of a run; a layer's bytes are those that its own instructions move, their words included."""
    array = result.accelerator.mac_array
    peak, bandwidth = array.rows * array.columns, result.accelerator.dram_bytes_per_cycle
    points = []
    for number, layer in enumerate(result.layers, 1):
        dram = layer.traffic["dram"].read + layer.traffic["dram"].written
        if layer.macs and layer.cycles and dram:
            intensity = layer.macs / dram
            points.append(
                Point(
                    number=number,
                    name=layer.name,
                    cycles=layer.cycles,
                    intensity=intensity,
                    rate=layer.macs / layer.cycles,
                    ceiling=min(peak, bandwidth * intensity),
                    bound="MAC array" if peak <= bandwidth * intensity else "DRAM",
                )
            )
    return Roofline(peak, bandwidth, tuple(points))
