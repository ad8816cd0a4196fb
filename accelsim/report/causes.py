"""The causes of a unit's cycles: the one list of their names, meanings, order and colours.

A cause has the same name everywhere: `wait_load` in JSON and in the docs is "wait load" in tables and pictures.
"""

from __future__ import annotations

from collections.abc import Iterable

_WAITS = (
    "has an instruction and waits for a token; wait_post of the mac unit (wait_mac of the post unit) also where it has "
    "preloaded and the token alone keeps the first vector from entering"
)

#: Cause: what it says of the unit (the text of docs/architecture.md), and a colour of Okabe and Ito's and of Tol's
#: colour-blind safe sets (dark to light where one repeats).
_CAUSES = {
    "busy": ("mac, post: a new vector enters. load, store, fetcher: a beat moves", "#0072B2"),
    "working": ("the part of the array's busy cycles that its cells would take if all of them multiplied", "#0072B2"),
    "empty": ("the rest of the array's busy cycles: cells without work", "#88CCEE"),
    "fill": ("preloads, reads constants or a table, or drains", "#56B4E9"),
    "bank_conflict": (
        "repeats an access for want of banks: cycles by which the last vector enters later than with enough banks",
        "#CC79A7",
    ),
    "wait_load": (_WAITS, "#E69F00"),
    "wait_mac": (_WAITS, "#F0E442"),
    "wait_post": (_WAITS, "#D55E00"),
    "wait_store": (_WAITS, "#882255"),
    "fetch": ("has no instruction", "#009E73"),
    "request": ("has made a request that the arbiter sees in the next cycle", "#DDCC77"),
    "dram_contention": ("waits while another has the bus, or the L2 serves another", "#AA4499"),
    "dram_row": (
        "waits for a row to be closed or opened, or for a refresh: for each burst the clocks by which that put off its "
        "read or write",
        "#661100",
    ),
    "dram_latency": ("has asked for all it may, and waits for DRAM to answer", "#999933"),
    "l2_latency": ("with an L2: has asked for all it may, or waits for the look-up of a hit", "#999933"),
    "l2_miss": ("waits for a line that was not in the L2", "#6699CC"),
    "l2_full": (
        "could be granted an access, but all entries of the L2 are taken, by reads that have not left or stores that "
        "DRAM has not taken",
        "#AA4466",
    ),
    "queue_full": ("the fetcher: a queue has no room", "#117733"),
    "finished": ("has no work any more", "#BBBBBB"),
}
_OTHER = "#555555"


def label(cause: str) -> str:
    """The cause in words: its name with spaces."""
    return cause.replace("_", " ")


def meaning(cause: str) -> str:
    """What the cause says of its unit; empty for one that is not known."""
    return _CAUSES[cause][0] if cause in _CAUSES else ""


def colour(cause: str) -> str:
    """The cause's colour."""
    return _CAUSES[cause][1] if cause in _CAUSES else _OTHER


def ordered(causes: Iterable[str]) -> list[str]:
    """Each cause once, in the order of the list above, unknown ones after it by name."""
    known = list(_CAUSES)
    return sorted(set(causes), key=lambda cause: (known.index(cause) if cause in _CAUSES else len(known), cause))
