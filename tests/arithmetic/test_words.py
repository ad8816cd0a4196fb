"""Words of the parameter buffer are what the bytes of `struct` say."""

from __future__ import annotations

import struct

import numpy as np

from accelsim.arithmetic.words import joined, pair, signed, word

#: The ends of each width, and what is next to them.
INT32 = [place + step for place in (-(2**31), 0, 2**31 - 1) for step in (-1, 0, 1) if -(2**31) <= place + step < 2**31]
INT64 = [*INT32, -(2**63), -(2**63) + 1, -(2**32) - 1, -(2**32), 2**32 - 1, 2**32, 2**32 + 1, 5 << 33, 2**63 - 1]


def test_a_word_holds_the_low_bits_and_gives_the_integer_back() -> None:
    words = word(np.array(INT32, np.int64))
    assert words.dtype == np.uint32
    assert words.tobytes() == struct.pack(f"<{len(INT32)}i", *INT32)
    assert signed(words).tolist() == INT32
    assert word(np.array(INT64, np.int64)).tolist() == [value % 2**32 for value in INT64]


def test_a_pair_holds_all_bits_and_gives_the_integer_back() -> None:
    low, high = pair(np.array(INT64, np.int64))
    assert low.dtype == high.dtype == np.uint32
    assert np.stack([low, high], axis=1).tobytes() == struct.pack(f"<{len(INT64)}q", *INT64)
    assert joined(low, high).tolist() == INT64


def test_words_that_lie_apart_in_memory_are_read_too() -> None:
    plane = word(np.array([[1, -2], [-3, 4]], np.int64))
    assert signed(plane.T).tolist() == [[1, -3], [-2, 4]]
