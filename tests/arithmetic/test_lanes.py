"""Spans of elements by hand; that they are PyTorch's, the tests of each operator say."""

from __future__ import annotations

import pytest

from accelsim.arithmetic.lanes import GRAIN, Span, chunks, merged, rows, spans

BODY, TAIL, OTHER = object(), object(), object()


def test_neighbours_with_one_rule_are_one_span_and_empty_ones_none() -> None:
    given = [(0, 3, OTHER), (3, 3, BODY), (3, 5, TAIL), (5, 6, BODY), (6, 7, BODY), (7, 8, BODY), (8, 9, TAIL)]
    found = [(0, 3, OTHER), (3, 5, TAIL), (5, 8, BODY), (8, 9, TAIL)]
    assert merged(Span(*span) for span in given) == tuple(Span(*span) for span in found)
    assert merged([Span(4, 4, BODY), Span(5, 4, BODY)]) == ()


@pytest.mark.parametrize(
    ("count", "threads", "sizes"),
    [
        (0, 1, []),
        (1, 4, [1]),
        (2**15, 4, [2**15]),
        (2**15 + 1, 4, [2**14 + 1, 2**14]),
        (2**16, 4, [2**15, 2**15]),
        (2**16 + 1, 4, [21846, 21846, 21845]),
        (10**6, 1, [10**6]),
        (10**6, 3, [333334, 333334, 333332]),
    ],
)
def test_threads_get_equal_parts_and_no_more_than_one_for_each_grain(
    count: int, threads: int, sizes: list[int]
) -> None:
    found = chunks(count, threads)
    assert [stop - start for start, stop in found] == sizes
    assert [start for start, _ in found] == [sum(sizes[:place]) for place in range(len(sizes))]
    assert GRAIN == 2**15  # ATen, GRAIN_SIZE


@pytest.mark.parametrize(
    ("count", "bodies", "tails"),
    [
        (0, [], []),
        (63, [], [(0, 63)]),
        (64, [(0, 64)], []),
        (127, [(0, 64)], [(64, 127)]),
        (2**15 + 129, [(0, 2**14 + 64), (2**14 + 65, 2**15 + 129)], [(2**14 + 64, 2**14 + 65)]),
        (
            2**15 + 132,
            [(0, 2**14 + 64), (2**14 + 66, 2**15 + 130)],
            [(2**14 + 64, 2**14 + 66), (2**15 + 130, 2**15 + 132)],
        ),
    ],
)
def test_each_chunk_has_a_body_of_whole_passes_and_a_tail(
    count: int, bodies: list[object], tails: list[object]
) -> None:
    found = spans(count, BODY, TAIL, threads=2)
    assert [(span.start, span.stop) for span in found if span.rule is BODY] == bodies
    assert [(span.start, span.stop) for span in found if span.rule is TAIL] == tails


def test_there_is_one_thread_unless_more_are_named() -> None:
    assert spans(2**20, BODY, TAIL) == (Span(0, 2**20, BODY),)
    assert spans(2**20 + 64 + 3, BODY, TAIL) == (Span(0, 2**20 + 64, BODY), Span(2**20 + 64, 2**20 + 67, TAIL))


def test_each_row_starts_again() -> None:
    expected = [(0, 8, BODY), (8, 11, TAIL), (11, 19, BODY), (19, 22, TAIL)]
    assert rows(22, 11, 4, BODY, TAIL) == tuple(Span(*span) for span in expected)
    assert rows(24, 12, 4, BODY, TAIL) == (Span(0, 24, BODY),)
    assert rows(6, 3, 4, BODY, TAIL) == (Span(0, 6, TAIL),)
