"""What a simulation returns: plain frozen data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from accelsim.hardware import Accelerator
from accelsim.machine.dram.bus import Lines
from accelsim.machine.traffic import Traffic

from .units import Span

if TYPE_CHECKING:
    from accelsim.network import Output


@dataclass(frozen=True)
class LayerResult:
    """One layer's window of the run. `stalls` are the MAC unit's cycles in it that were not busy, by cause."""

    name: str
    start: int
    cycles: int
    macs: int
    utilization: float
    stalls: Mapping[str, int]
    traffic: Mapping[str, Traffic]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Result:
    """Outputs, cycles and bytes of one run.

    `outputs`: one a port, empty for a timing-only run. `cycles`, `traffic` (bytes by memory), `units` (cycles by cause,
    each unit's sum is `cycles`), `layers` and `timeline` are those of one run of the program, also where several were
    run in lockstep. `values` are the program's probes by name. `l2`: hits and misses, None without an L2.
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
    l2: Lines | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: everything but the timeline and the arrays, whose shapes and affine maps it names."""
        l2 = {} if self.l2 is None else {"l2": self.l2._asdict()}
        return {
            "program": self.name,
            "accelerator": self.accelerator.to_dict(),
            "cycles": self.cycles,
            "seconds": self.cycles / (self.accelerator.clock_mhz * 1e6),
            "macs": self.macs,
            "utilization": self.utilization,
            "layers": [layer.to_dict() for layer in self.layers],
            "traffic": {memory: dataclasses.asdict(traffic) for memory, traffic in self.traffic.items()},
            **l2,
            "units": {unit: dict(causes) for unit, causes in self.units.items()},
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
