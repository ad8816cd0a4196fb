"""How the causes of stalled cycles are named, ordered and coloured, everywhere the same."""

from __future__ import annotations

from collections.abc import Iterable

#: Cause: what people read, and a colour of Okabe and Ito's colour-blind safe set (dark to light where one repeats).
_CAUSES = {
    "busy": ("busy", "#0072B2"),
    "fill": ("fill and drain", "#56B4E9"),
    "bank_conflict": ("bank conflict", "#CC79A7"),
    "wait_load": ("waits for load", "#E69F00"),
    "wait_mac": ("waits for mac", "#F0E442"),
    "wait_post": ("waits for post", "#D55E00"),
    "wait_store": ("waits for store", "#882255"),
    "fetch": ("no instruction", "#009E73"),
    "request": ("request", "#DDCC77"),
    "dram_contention": ("DRAM contention", "#AA4499"),
    "dram_row": ("DRAM row", "#661100"),
    "dram_latency": ("DRAM latency", "#999933"),
    "l2_latency": ("L2 latency", "#999933"),
    "l2_miss": ("L2 miss", "#6699CC"),
    "l2_full": ("L2 full", "#AA4466"),
    "queue_full": ("queue full", "#117733"),
    "finished": ("no work left", "#BBBBBB"),
}
_OTHER = "#555555"


def label(cause: str) -> str:
    """The cause in words."""
    return _CAUSES[cause][0] if cause in _CAUSES else cause.replace("_", " ")


def colour(cause: str) -> str:
    """The cause's colour."""
    return _CAUSES[cause][1] if cause in _CAUSES else _OTHER


def ordered(causes: Iterable[str]) -> list[str]:
    """Each cause once, in the order of the list above, unknown ones after it by name."""
    known = list(_CAUSES)
    return sorted(set(causes), key=lambda cause: (known.index(cause) if cause in _CAUSES else len(known), cause))
