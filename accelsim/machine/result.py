"""What a simulation returns: plain frozen data."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from accelsim.errors import MachineError
from accelsim.hardware import Accelerator
from accelsim.machine.array.use import ArrayUse
from accelsim.machine.dram.bus import Lines
from accelsim.machine.traffic import Traffic
from accelsim.summary import Shown, Summary, tensors

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
        """The part of `busy` that cells without work took; below 0 only where a program mixes the MACs of layers."""
        return self.busy - self.working

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        array = dataclasses.asdict(self.array) | {
            name: getattr(self.array, name) for name in ("rows", "columns", "vectors_per_fold")
        }
        split = {"busy": self.busy, "working": self.working, "empty": self.empty}
        return dataclasses.asdict(self) | split | {"array": array}


@dataclass(frozen=True, repr=False)
class Result(Shown):
    """Outputs, cycles and bytes of one run.

    `outputs`: one a port, empty for a timing-only run. `cycles`, `traffic` (bytes by memory), `units` (cycles by cause,
    each unit's sum is `cycles`), `layers` and `timeline` are those of one run of the program, also where several were
    run in lockstep. `values` are the program's probes by name. `bounds`: the cycles by the resource that the array
    waited for (`machine/bounds.py`), in sum `cycles`. `l2`: hits and misses, None without an L2.
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
    l2: Lines | None = None

    def summary(self) -> Summary:
        """Cycles, time, utilisation, what the array did, DRAM's bytes, the longest layers; by layer the same."""
        array, dram = self.accelerator.mac_array, self.traffic["dram"]
        causes = sorted(self.units["mac"].items(), key=lambda item: -item[1])
        longest = sorted(self.layers, key=lambda layer: -layer.cycles)[:3]
        outputs = tensors((item.name, item.quantized.shape, str(item.quantized.dtype)) for item in self.outputs)
        return Summary(
            f"Result {self.name} on {self.accelerator.name}: {self.cycles:,} cycles, "
            f"{self.cycles / self.accelerator.clock_mhz:,.4g} µs, utilisation {self.utilization:.1%} of "
            f"{array.rows} x {array.columns} cells",
            (
                ("MAC array", ", ".join(f"{cause} {cycles / self.cycles:.1%}" for cause, cycles in causes[:4])),
                ("DRAM", f"{dram.read:,} bytes read, {dram.written:,} written"),
                ("longest layers", ", ".join(f"{layer.name} {layer.cycles:,}" for layer in longest)),
                ("outputs", outputs if self.outputs else "none: a run in time alone"),
            ),
            ("layer", "MACs", "cycles", "utilisation", "working", "empty", "stalls"),
            [
                (
                    layer.name,
                    *(f"{part:,}" for part in (layer.macs, layer.cycles)),
                    f"{layer.utilization:.1%}",
                    *(f"{part:,.0f}" for part in (layer.working, layer.empty)),
                    ", ".join(f"{cause} {cycles:,}" for cause, cycles in layer.stalls.items()),
                )
                for layer in self.layers
            ],
        )

    def to_dataframe(self) -> Any:
        """A data frame of pandas, or of polars where pandas is not installed, with a row a layer.

        Columns: name, start, cycles, macs, utilization, busy, working, empty; `array.…` of `LayerResult.array`;
        `UNIT.CAUSE` cycles, `MEMORY.read` and `MEMORY.written` bytes. Raises MachineError where neither is installed.
        """
        for package in ("pandas", "polars"):
            try:
                frame = importlib.import_module(package).DataFrame
            except ImportError:
                continue
            return frame([self._row(layer) for layer in self.layers])
        raise MachineError("to_dataframe needs pandas or polars, and neither is installed: pip install pandas")

    def _row(self, layer: LayerResult) -> dict[str, Any]:
        """Numbers of a layer by column, in all layers the same columns."""
        names = ("name", "start", "cycles", "macs", "utilization", "busy", "working", "empty")
        row = {name: getattr(layer, name) for name in names}
        row |= {f"array.{name}": value for name, value in dataclasses.asdict(layer.array).items()}
        for unit, causes in self.units.items():
            row |= {f"{unit}.{cause}": layer.units[unit].get(cause, 0) for cause in causes}
        for memory, moved in layer.traffic.items():
            row |= {f"{memory}.read": moved.read, f"{memory}.written": moved.written}
        return row

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
