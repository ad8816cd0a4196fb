"""Which elements of a flat tensor PyTorch's vector loops take, and which are left to their scalar tails."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

#: Elements that one pass of ATen's vector loop takes (`cpu/Loops.h`: two vectors of 32 codes). The quantised kernels
#: are not compiled for AVX-512, channels_last average pools apart, so that this holds for every kernel set.
VECTOR_LOOP = 64

#: Fewer elements than this stay on one thread (`TensorIteratorBase.h`, GRAIN_SIZE).
GRAIN = 32768

Layout = Literal["contiguous", "channels_last"]

Rule = TypeVar("Rule")


@dataclass(frozen=True)
class Span(Generic[Rule]):
    """`rule` holds for the elements `start..stop` of the flat tensor in PyTorch's memory order."""

    start: int
    stop: int
    rule: Rule


def merged(spans: Iterable[Span[Rule]]) -> tuple[Span[Rule], ...]:
    """The spans that are not empty; neighbours with the same rule object become one."""
    result: list[Span[Rule]] = []
    for span in spans:
        if span.start >= span.stop:
            continue
        if result and result[-1].rule is span.rule:
            result[-1] = Span(result[-1].start, span.stop, span.rule)
        else:
            result.append(span)
    return tuple(result)


def chunks(count: int, threads: int) -> list[tuple[int, int]]:
    """What each thread of ATen's `parallel_for` gets of `count` elements of an element-wise operator."""
    if not count:
        return []
    size = -(-count // min(threads, -(-count // GRAIN)))
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def spans(count: int, body: Rule, tail: Rule, *, threads: int = 1) -> tuple[Span[Rule], ...]:
    """An element-wise operator over `count` contiguous elements: whole vector passes by `body`, the rest by `tail`.

    With several threads each chunk has a body and a tail of its own.
    """
    parts: list[Span[Rule]] = []
    for start, stop in chunks(count, threads):
        split = start + (stop - start) // VECTOR_LOOP * VECTOR_LOOP
        parts += [Span(start, split, body), Span(split, stop, tail)]
    return merged(parts)


def rows(count: int, length: int, width: int, body: Rule, tail: Rule) -> tuple[Span[Rule], ...]:
    """A kernel that starts again in each row of `length` elements: `length // width * width` by `body`, then `tail`."""
    split = length // width * width
    parts: list[Span[Rule]] = []
    for start in range(0, count, length):
        parts += [Span(start, start + split, body), Span(start + split, start + length, tail)]
    return merged(parts)
