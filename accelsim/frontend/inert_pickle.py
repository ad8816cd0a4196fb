"""Pickles as data: their operations are read, and none of the names in them is looked up, called or built.

`torch.load(weights_only=True)` calls a list of names with whatever arguments the file has: some of them allocate what
they are asked for (`bytearray(10**10)`), others return memory that nobody wrote (`torch.FloatTensor(10**9)`).
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class PickleError(Exception):
    """What is wrong with a pickle, as part of a sentence."""


@dataclass(frozen=True)
class Name:
    """A global that a pickle names, such as "torch._utils._rebuild_tensor_v2"."""

    path: str


@dataclass(frozen=True, eq=False)
class Built:
    """What calling `function` with `arguments` would have made."""

    function: Any
    arguments: Any


@dataclass(frozen=True, eq=False)
class Persistent:
    """What stands outside of the pickle under this identification."""

    identification: Any


_ORDERED_DICT = "collections.OrderedDict"
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING")
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickle(content: bytes) -> Any:
    """The value of a pickle of protocol 2: numbers, strings, lists, tuples and dicts, and in the place of everything
    else a Name, Built or Persistent. What would be set on such an object, or appended to it, is left out.

    Values may be shared, and may hold themselves. Keys are numbers and strings. Raises PickleError.
    """
    machine = _Machine()
    try:
        for operation, argument, _ in pickletools.genops(content):
            if operation.name == "STOP":
                return machine.stack.pop()
            machine.do(operation.name, argument)
    except (IndexError, KeyError):
        raise PickleError("takes a value that was never made") from None
    except (ValueError, EOFError) as error:
        raise PickleError(f"cannot be read ({str(error)[:100]})") from None
    raise PickleError("has no end")


class _Machine:
    """The stack machine that pickles are written for."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._below: list[list[Any]] = []  # what lies under each mark
        self._memo: dict[int, Any] = {}

    def do(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _TUPLES:
            count = _TUPLES[name]
            if len(stack) < count:
                raise IndexError
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "GLOBAL":
            stack.append(Name(".".join(argument.split(" ", 1))))
        elif name == "BINPERSID":
            stack.append(Persistent(stack.pop()))
        elif name == "MARK":
            self._below.append(stack)
            self.stack = []
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            stack.append(_built(function, arguments))
        else:
            self._change(name)

    def _change(self, name: str) -> None:
        """Operations that put values into others."""
        if name == "PROTO":
            return
        if name == "TUPLE":
            made = tuple(self._to_mark())
            self.stack.append(made)
        elif name == "BUILD":
            self.stack.pop()  # the state of an object
        elif name == "APPEND":
            _extend(self.stack[-2], [self.stack.pop()])
        elif name == "APPENDS":
            items = self._to_mark()
            _extend(self.stack[-1], items)
        elif name == "SETITEM":
            item, key = self.stack.pop(), self.stack.pop()
            _set(self.stack[-1], key, item)
        elif name == "SETITEMS":
            items = self._to_mark()
            for key, item in zip(items[::2], items[1::2], strict=True):
                _set(self.stack[-1], key, item)
        else:
            raise PickleError(f"has the operation {name}, which torch.save does not write")

    def _to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self._below.pop()
        return items


def _built(function: Any, arguments: Any) -> Any:
    if isinstance(function, Name) and function.path == _ORDERED_DICT and arguments == ():
        return {}
    return Built(function, arguments)


def _extend(target: Any, items: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, Built):
        raise PickleError(f"appends to a {type(target).__name__}")


def _set(target: Any, key: Any, item: Any) -> None:
    if isinstance(target, Built):
        return
    if not isinstance(target, dict):
        raise PickleError(f"sets an item of a {type(target).__name__}")
    # To hash a tuple of shared tuples takes time exponential in their depth.
    if not isinstance(key, str | int | float | None):
        raise PickleError(f"has a key that is a {type(key).__name__}")
    if key in target:
        raise PickleError(f"has the key {str(key)[:100]!r} twice")
    target[key] = item
