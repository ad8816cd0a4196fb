"""The table from float operators to what builds their nodes."""

from __future__ import annotations

from collections.abc import Callable

from accelsim.frontend.floats import FloatCall

#: Builds the nodes of a call; False where there are none for what it is given.
Handler = Callable[[FloatCall], bool]

OPERATORS: dict[str, Handler] = {}


def operator(*names: str) -> Callable[[Handler], Handler]:
    """Enter the handler of some operators."""

    def enter(handler: Handler) -> Handler:
        OPERATORS.update(dict.fromkeys((f"aten.{name}" for name in names), handler))
        return handler

    return enter
