"""How far fixed point carries a network: by layer, which channels have a certificate and what the others get wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.table import Table

from accelsim.arithmetic.certificate import Certificate
from accelsim.network import Network, Node
from accelsim.network.substitution import certify_layer, matrix_nodes

from .tables import percent, plain_table


@dataclass(frozen=True)
class LayerCertification:
    """`differing` of the `reachable` accumulators of all channels get another code, by `worst` at most.

    `bits` is the narrowest multiplier with which every channel that can be certified is; 0 if none can.
    """

    layer: str
    kind: str
    channels: int
    certified: int
    differing: int
    reachable: int
    worst: int
    bits: int

    @property
    def share(self) -> float:
        """Differing accumulators as a share of the reachable ones."""
        return self.differing / self.reachable if self.reachable else 0.0


def certify(
    network: Network, multiplier_bits: int, advance: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, tuple[LayerCertification, Certificate]]:
    """Every convolution and linear layer of a network, by name. Raises ConfigurationError for a width outside 1..31."""
    nodes = matrix_nodes(network)
    result = {}
    for index, node in enumerate(nodes):
        advance(index, len(nodes))
        found = certify_layer(network, node, multiplier_bits)
        result[node.name] = (summary(node, found), found)
    return result


def summary(node: Node, found: Certificate) -> LayerCertification:
    """What is proved of one layer."""
    return LayerCertification(
        layer=node.name,
        kind=type(node).__name__,
        channels=len(found.certified),
        certified=int(found.certified.sum()),
        differing=int(found.differing.sum()),
        reachable=int(found.reach.count.sum()),
        worst=int(found.worst.max(initial=0)),
        bits=int(found.bits.max(initial=0)),
    )


def certification_table(network: Network, rows: list[LayerCertification], multiplier_bits: int) -> Table:
    """A row a layer, and the totals."""
    columns = [
        "layer",
        "channels",
        "certified",
        "not",
        "differing\naccumulators",
        "of the\nreachable",
        "worst\ndifference",
    ]
    title = f"{network.name}, {network.engine}: q = clamp((acc * M + B) >> S) with M of {multiplier_bits} bits"
    caption = (
        "A certified channel gives the engine's code for every accumulator that its weights and any input can reach."
    )
    table = plain_table(title, [*columns, "bits that\nsuffice"], caption=caption)
    for row in rows:
        missing = row.channels - row.certified
        counts = (f"{value:,}" for value in (row.channels, row.certified, missing, row.differing))
        table.add_row(row.layer, *counts, percent(row.share), str(row.worst), str(row.bits or "none"))
    table.add_section()
    channels, certified, differing, reachable = (
        sum(getattr(row, name) for row in rows) for name in ("channels", "certified", "differing", "reachable")
    )
    totals = (f"{value:,}" for value in (channels, certified, channels - certified, differing))
    worst, bits = max((row.worst for row in rows), default=0), max((row.bits for row in rows), default=0)
    share = percent(differing / reachable if reachable else 0.0)
    table.add_row("total", *totals, share, str(worst), str(bits or "none"), style="bold")
    return table
