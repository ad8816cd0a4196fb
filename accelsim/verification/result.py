"""What a comparison with PyTorch found: plain frozen data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from accelsim.escaping import printable
from accelsim.summary import Shown, Summary


@dataclass(frozen=True)
class LayerVerification:
    """One layer's comparison: `compared` outputs, of which `differing`; `differing_bits` of `8 * compared`.

    Also that of an input of the network, and of an output as the caller gets it (real numbers have no bits counted).

    `explained` of the differing outputs have the `cause` named; the others are failures. `changed`: outputs that the
    arithmetic of the machine's requant unit makes other than the engine's, from PyTorch's inputs of the layer; `worst`:
    by how much at most.
    """

    name: str
    compared: int
    differing: int
    differing_bits: int
    explained: int
    cause: str
    changed: int = 0
    worst: int = 0

    @property
    def mismatches(self) -> int:
        """Differing outputs that nothing explains."""
        return self.differing - self.explained


@dataclass(frozen=True, repr=False)
class Verification(Shown):
    """All inputs after their quantisation, layers, and outputs as the caller gets them.

    `notes` say under which conditions PyTorch ran, and what the machine's arithmetic changes. `arithmetic`: that of the
    machine's requant unit.
    """

    engine: str
    layers: tuple[LayerVerification, ...]
    notes: tuple[str, ...]
    arithmetic: str = "float32_exact"
    inputs: tuple[LayerVerification, ...] = ()
    outputs: tuple[LayerVerification, ...] = ()

    def summary(self) -> Summary:
        """How many elements were compared and differ, and the layers that differ most; by layer the counts."""
        differing = sorted((row for row in self.rows if row[1].differing), key=lambda row: -row[1].differing)
        shown = [
            (name, f"{row.differing:,} of {row.compared:,} differ, {row.mismatches:,} unexplained {row.cause}".rstrip())
            for name, row in differing
        ]
        more = [("and", f"{len(shown) - 6} more rows that differ")] if len(shown) > 7 else []
        return Summary(
            f"Verification beside {self.engine}: {self.compared:,} elements compared, {self.differing_bits:,} "
            f"differing bits, {self.mismatches:,} unexplained differences",
            (("arithmetic", self.arithmetic), *shown[: 6 if more else 7], *more),
            ("layer", "compared", "differing", "bits", "explained", "unexplained", "cause"),
            [
                (
                    name,
                    *(f"{part:,}" for part in (row.compared, row.differing, row.differing_bits, row.explained)),
                    f"{row.mismatches:,}",
                    row.cause,
                )
                for name, row in self.rows
            ],
        )

    @property
    def rows(self) -> tuple[tuple[str, LayerVerification], ...]:
        """Every comparison in order, each with what a table calls it."""
        return (
            *((f"input {printable(row.name)}", row) for row in self.inputs),
            *((printable(row.name), row) for row in self.layers),
            *((f"output {printable(row.name)}", row) for row in self.outputs),
        )

    @property
    def compared(self) -> int:
        """Elements compared: of inputs, layers and outputs."""
        return sum(row.compared for _, row in self.rows)

    @property
    def mismatches(self) -> int:
        """Elements that differ for no known reason."""
        return sum(row.mismatches for _, row in self.rows)

    @property
    def explained(self) -> int:
        """Elements that differ for a reason that was computed."""
        return sum(row.explained for _, row in self.rows)

    @property
    def differing_bits(self) -> int:
        """Bits that differ, explained or not."""
        return sum(row.differing_bits for _, row in self.rows)

    def report(self) -> str:
        """The comparison as a table of text."""
        width = max([5, *(len(name) for name, _ in self.rows)])
        altered = any(layer.changed for layer in self.layers)
        head = f"{'changed':>9}  {'worst':>5}  " if altered else ""
        lines = [
            f"{'layer':{width}}  {'compared':>10}  {'differing':>9}  {'bits':>6}  {'unexplained':>11}  {head}cause"
        ]
        for name, layer in self.rows:
            changed = f"{layer.changed:>9,}  {layer.worst:>5}  " if altered else ""
            lines.append(
                f"{name:{width}}  {layer.compared:>10,}  {layer.differing:>9,}  {layer.differing_bits:>6,}"
                f"  {layer.mismatches:>11,}  {changed}{layer.cause}".rstrip()
            )
        lines.append(
            f"{self.engine}: {self.compared:,} elements compared, {self.differing_bits:,} differing bits, "
            f"{self.mismatches:,} unexplained and {self.explained:,} explained differences"
        )
        return "\n".join([*lines, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "engine": self.engine,
            "arithmetic": self.arithmetic,
            "compared": self.compared,
            "differing_bits": self.differing_bits,
            "mismatches": self.mismatches,
            "explained": self.explained,
            **{
                kind: [{**asdict(row), "mismatches": row.mismatches} for row in rows]
                for kind, rows in (("inputs", self.inputs), ("layers", self.layers), ("outputs", self.outputs))
            },
            "notes": list(self.notes),
        }
