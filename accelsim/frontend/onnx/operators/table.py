"""The operators that are read, by their name: one handler each."""

from __future__ import annotations

from collections.abc import Callable

from accelsim.frontend.onnx.builder import Builder
from accelsim.frontend.onnx.container import Call

Handler = Callable[[Builder, Call], None]

OPERATORS: dict[str, Handler] = {}


def operator(*names: str) -> Callable[[Handler], Handler]:
    """Declare the handler of the operators of these names."""

    def declare(handler: Handler) -> Handler:
        for name in names:
            assert name not in OPERATORS, name
            OPERATORS[name] = handler
        return handler

    return declare
