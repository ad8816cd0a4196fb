"""What a simulation returns: plain frozen data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from accelsim.hardware import Accelerator
from accelsim.machine.array.use import ArrayUse
from accelsim.machine.traffic import Traffic

from .units import Span

if TYPE_CHECKING:
    from accelsim.network import Output


@dataclass(frozen=True)
class LayerResult:
    """One layer's window of the run.

    `units` are each unit's cycles in the window by cause, "busy" first, and add up to `cycles`; `stalls` are those of
    the MAC unit that were not busy. `array`: how the layer's vectors lay on the array.
    """

    name: str
    start: int
    cycles: int
    macs: int
    utilization: float
    stalls: Mapping[str, int]
    traffic: Mapping[str, Traffic]
    units: Mapping[str, Mapping[str, int]]
    array: ArrayUse

    @property
    def busy(self) -> int:
        """Cycles in which a vector entered the array."""
        return self.cycles - sum(self.stalls.values())

    @property
    def working(self) -> float:
        """The part of `busy` that a full array would have taken: `macs` over its cells."""
        return self.utilization * self.cycles

    @property
    def empty(self) -> float:
        """The part of `busy` that cells without work took."""
        return self.busy - self.working

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        array = dataclasses.asdict(self.array) | {
            name: getattr(self.array, name) for name in ("rows", "columns", "vectors_per_fold")
        }
        split = {"busy": self.busy, "working": self.working, "empty": self.empty}
        return dataclasses.asdict(self) | split | {"array": array}


@dataclass(frozen=True)
class Result:
    """Outputs, cycles and bytes of one run.

    `outputs`: one a port, empty for a timing-only run. `cycles`, `traffic` (bytes by memory), `units` (cycles by cause,
    each unit's sum is `cycles`), `layers` and `timeline` are those of one run of the program, also where several were
    run in lockstep. `values` are the program's probes by name. `bounds`: the
    cycles by the resource that the array waited for (`machine/bounds.py`), in sum `cycles`.
    """

    name: str
    accelerator: Accelerator
    cycles: int
    macs: int
    utilization: float
    layers: tuple[LayerResult, ...]
    traffic: Mapping[str, Traffic]
    units: Mapping[str, Mapping[str, int]]
    timeline: tuple[Span, ...] = field(repr=False)
    outputs: list[Output] = field(default_factory=list, repr=False)
    values: Mapping[str, Output] = field(default_factory=dict, repr=False)
    bounds: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: everything but the timeline and the arrays, whose shapes and affine maps it names."""
        return {
            "program": self.name,
            "accelerator": self.accelerator.to_dict(),
            "cycles": self.cycles,
            "seconds": self.cycles / (self.accelerator.clock_mhz * 1e6),
            "macs": self.macs,
            "utilization": self.utilization,
            "layers": [layer.to_dict() for layer in self.layers],
            "traffic": {memory: dataclasses.asdict(traffic) for memory, traffic in self.traffic.items()},
            "units": {unit: dict(causes) for unit, causes in self.units.items()},
            "bounds": dict(self.bounds),
            "outputs": [
                {
                    "shape": list(output.quantized.shape),
                    "dtype": str(output.quantized.dtype),
                    "scale": output.scale,
                    "zero_point": output.zero_point,
                }
                for output in self.outputs
            ],
        }
