"""Arithmetic on the keys of a configuration, written as text: `512 * rows * columns`, `rows * columns <= 1024`.

The text is parsed as Python's, and only the few forms below are worked out: nothing of it is ever executed.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

from accelsim.reading import shown

#: A number, a truth or a word.
Value = Fraction | bool | str

UNITS = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3}

#: Characters of an expression: a sum over all keys of a configuration takes half of it. It bounds what parsing costs.
_LONGEST = 1000
_TAKES = "it takes numbers, sizes such as 64KiB, keys, + - * / // % ( ), min, max, ceil, comparisons, and, or, not"
_SIZE = re.compile(r"(?<![\w.])([0-9]+)([KMG]i?B|B)\b", re.IGNORECASE)

_ARITHMETIC: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction | int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_ORDER: dict[type[ast.cmpop], Callable[[Fraction, Fraction], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: dict[str, Callable[[list[Fraction]], Fraction]] = {
    "min": min,
    "max": max,
    "ceil": lambda numbers: Fraction(math.ceil(numbers[0])),
}


@dataclass(frozen=True)
class Expression:
    """A parsed text. `names`: the keys in it as they are written, each once and in order."""

    text: str
    tree: ast.expr
    names: tuple[str, ...]

    def value(self, lookup: Callable[[str], Value]) -> Value:
        """What it comes to, with `lookup` for the value of a name. Raises ValueError with the reason if to nothing."""
        return _value(self.tree, lookup)


def parse(text: str) -> Expression:
    """The expression that a text holds. Raises ValueError with the reason."""
    if len(text) > _LONGEST:
        raise ValueError(f"has {len(text)} characters; an expression has at most {_LONGEST}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of what is written oddly Python warns
            tree = ast.parse(_SIZE.sub(_bytes, text.strip()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError, Warning):
        raise ValueError(f"{shown(text)} is no expression; {_TAKES}") from None
    return Expression(text, tree, tuple(dict.fromkeys(_names(tree))))


def resolve(name: str, keys: Iterable[str]) -> str:
    """The key that a name stands for: the key itself, or its last parts where no other key ends in them.

    Raises ValueError where there is none, or several.
    """
    keys = tuple(keys)
    if name in keys:
        return name
    found = [key for key in keys if key.endswith(f".{name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{name} may be {' or '.join(found)}; write which")
    raise ValueError(f"there is no key {shown(name)[1:-1]}; the keys are {', '.join(keys)}")


def _bytes(match: re.Match[str]) -> str:
    return str(int(match[1]) * UNITS[match[2].upper()])


def _names(node: ast.expr) -> Iterable[str]:
    """The names in a tree. Raises ValueError for a form that no expression has."""
    match node:
        case ast.Name() | ast.Attribute():
            yield _dotted(node)
        case ast.Constant(value=value) if type(value) in (int, float, str):
            return
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not(), operand=operand):
            yield from _names(operand)
        case ast.BinOp(left=left, op=kind, right=right) if type(kind) in _ARITHMETIC:
            yield from _names(left)
            yield from _names(right)
        case ast.BoolOp(values=values):
            for part in values:
                yield from _names(part)
        case ast.Compare(left=left, ops=kinds, comparators=others) if all(
            isinstance(kind, ast.Eq | ast.NotEq) or type(kind) in _ORDER for kind in kinds
        ):
            for part in (left, *others):
                yield from _names(part)
        case ast.Call(func=ast.Name(id=function), args=[_, *_] as given, keywords=[]) if function in _FUNCTIONS:
            if function == "ceil" and len(given) > 1:
                raise ValueError("ceil takes one number")
            for part in given:
                yield from _names(part)
        case _:
            raise ValueError(f"{shown(ast.unparse(node))} is nothing that an expression may hold; {_TAKES}")


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise ValueError(f"{shown(ast.unparse(node))} is nothing that an expression may hold; {_TAKES}")


def _value(node: ast.expr, lookup: Callable[[str], Value]) -> Value:
    match node:
        case ast.Name() | ast.Attribute():
            return lookup(_dotted(node))
        case ast.Constant(value=str(word)):
            return word
        case ast.Constant(value=written):
            if written == math.inf:
                raise ValueError("a number in it is too large")
            return Fraction(repr(written))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _truth(operand, lookup)
        case ast.UnaryOp(op=kind, operand=operand):
            number = _number(operand, lookup)
            return -number if isinstance(kind, ast.USub) else number
        case ast.BinOp(left=left, op=kind, right=right):
            divisor = _number(right, lookup)
            if not divisor and isinstance(kind, ast.Div | ast.FloorDiv | ast.Mod):
                raise ValueError(f"{ast.unparse(right)} is 0, and something is divided by it")
            return Fraction(_ARITHMETIC[type(kind)](_number(left, lookup), divisor))
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(_truth(part, lookup) for part in parts)
        case ast.BoolOp(values=parts):
            return any(_truth(part, lookup) for part in parts)
        case ast.Compare(left=left, ops=kinds, comparators=others):
            pairs = zip((left, *others), kinds, others, strict=False)
            return all(_holds(first, kind, second, lookup) for first, kind, second in pairs)
        case ast.Call(func=ast.Name(id=function), args=given):
            return _FUNCTIONS[function]([_number(part, lookup) for part in given])
    raise AssertionError(ast.dump(node))  # `parse` lets nothing else pass


def _holds(left: ast.expr, kind: ast.cmpop, right: ast.expr, lookup: Callable[[str], Value]) -> bool:
    if type(kind) in _ORDER:
        return _ORDER[type(kind)](_number(left, lookup), _number(right, lookup))
    one, other = _value(left, lookup), _value(right, lookup)
    if type(one) is not type(other):
        raise ValueError(f"{ast.unparse(left)} and {ast.unparse(right)} are of two kinds and never equal")
    return (one == other) is isinstance(kind, ast.Eq)


def _number(node: ast.expr, lookup: Callable[[str], Value]) -> Fraction:
    value = _value(node, lookup)
    if not isinstance(value, Fraction):
        raise ValueError(f"{ast.unparse(node)} is no number")
    return value


def _truth(node: ast.expr, lookup: Callable[[str], Value]) -> bool:
    value = _value(node, lookup)
    if not isinstance(value, bool):
        raise ValueError(f"{ast.unparse(node)} is neither true nor false; write a comparison")
    return value
