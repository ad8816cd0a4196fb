"""What the prover says of fixed point is what trying every accumulator says.

The checker shares no code with the prover: it writes the binary32 steps out again, evaluates every accumulator of
small ranges in Python's integers, and the neighbours of every change of code on large ones.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.certificate import Certificate, prove, real_factor
from accelsim.arithmetic.engines import KernelSet
from accelsim.arithmetic.fixed_point import MOST_SHIFT, FixedPoint
from accelsim.arithmetic.matrix import requantization
from accelsim.arithmetic.reachable import Reachable, reachable
from accelsim.arithmetic.requantize import Requantization
from accelsim.arithmetic.separation import points, separating_slopes
from accelsim.arithmetic.thresholds import Thresholds, find_thresholds
from accelsim.errors import ConfigurationError

ENGINES = ("fbgemm", "qnnpack", "onednn")


class Layer:
    """A linear layer of one engine with random or tie-rich scales."""

    def __init__(
        self, rng: np.random.Generator, engine: str, channels: int, terms: int, *, ties: bool, largest: int = 127
    ) -> None:
        self.engine = engine
        self.weights = rng.integers(-largest, largest + 1, (channels, terms))
        sw = 2.0 ** rng.integers(-9, -5, channels) if ties else rng.uniform(0.001, 0.02, channels)
        self.sw = sw.astype(np.float64)
        self.input = Affine(2.0**-5 if ties else 0.0213, int(rng.integers(0, 256)), "uint8")
        scale = 2.0 ** int(rng.integers(-9, 1)) if ties else float(2.0 ** rng.uniform(-9, 1))
        self.output = Affine(scale, int(rng.integers(0, 256)), "uint8")
        steps = rng.integers(-300, 300, channels) / (2 if ties else 1.7)
        self.bias = (steps * self.input.scale * self.sw).astype(np.float32)
        self.relu = bool(rng.integers(0, 2))
        self.reach = reachable(
            self.weights, self.input.minimum - self.input.zero_point, self.input.maximum - self.input.zero_point
        )

    def rule(self) -> Requantization:
        return requantization(
            self.engine,
            KernelSet("avx512", "avx512"),
            kind="linear",
            input=self.input,
            weight_scale=self.sw,
            weight_zero_point=np.zeros(len(self.sw), np.int32),
            per_channel=True,
            output=self.output,
            bias=self.bias,
            relu=self.relu,
            channels=len(self.sw),
        )

    def codes(self, channel: int, accumulators: np.ndarray) -> np.ndarray:
        """The engine's codes, its steps written out for one channel."""
        one = np.float32(1)
        sx, sw, so = np.float32(self.input.scale), np.float32(self.sw[channel]), np.float32(self.output.scale)
        zo, bias = self.output.zero_point, self.bias[channel]
        acc = np.asarray(accumulators, np.int64)
        if self.engine == "fbgemm":
            x = np.rint((acc.astype(np.float32) + bias / (sx * sw)) * (sx * sw / so)).astype(np.float64) + zo
        elif self.engine == "qnnpack":
            steps = np.rint(bias * np.float32(1 / (self.input.scale * self.sw[channel])))
            x = np.rint((acc + int(steps)).astype(np.float32) * (sx * sw * (one / so))).astype(np.float64) + zo
        else:
            scaled = acc.astype(np.float32) * (one / (one / sx)) * (one / (one / sw))
            x = np.rint((scaled + bias) * (one / so) + np.float32(zo)).astype(np.float64)
        low = zo if self.relu else 0
        return np.clip(x, low, 255).astype(np.int64)


def fixed(found: Certificate, channel: int, accumulators: np.ndarray, layer: Layer) -> np.ndarray:
    """`clamp((acc * M + B) >> S)` in Python's integers."""
    m, b, s = (int(v[channel]) for v in (found.constants.multiplier, found.constants.offset, found.constants.shift))
    low = layer.output.zero_point if layer.relu else 0
    return np.array([min(max((acc * m + b) >> s, low), 255) for acc in accumulators.tolist()])


def extremes(layer: Layer, channel: int) -> tuple[int, int]:
    """The range of the accumulator, from the definition: each term takes its best code."""
    terms = [
        [int(w) * (code - layer.input.zero_point) for code in (0, layer.input.zero_point, 255)]
        for w in layer.weights[channel]
    ]
    return sum(map(min, terms)), sum(map(max, terms))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ties", [False, True], ids=["random", "ties"])
def test_the_verdict_is_that_of_trying_every_accumulator(engine: str, ties: bool) -> None:
    rng = np.random.default_rng(ENGINES.index(engine) + 10 * ties)
    verdicts: set[bool] = set()
    for largest in (127, 5, 9, 14, 20, 3, 11, 7, 17, 2):
        layer = Layer(rng, engine, 3, int(rng.integers(1, 4)), ties=ties, largest=largest)
        for bits in (31, 16, 9):
            found = prove(layer.rule(), layer.reach, bits)
            for channel in range(3):
                low, high = extremes(layer, channel)
                assert (low, high) == (layer.reach.low[channel], layer.reach.high[channel])
                accumulators = np.arange(low, high + 1)
                expected = layer.codes(channel, accumulators)
                assert np.array_equal(found.exact.apply(one_channel(accumulators, channel))[:, channel], expected)
                difference = np.abs(fixed(found, channel, accumulators, layer) - expected)
                assert found.intervals(channel) == runs(accumulators[difference > 0].tolist())
                assert found.differing[channel] == np.count_nonzero(difference)
                assert found.worst[channel] == difference.max()
                assert found.certified[channel] == (not difference.any())
                assert int(found.constants.multiplier[channel]).bit_length() <= bits
                verdicts.add(bool(found.certified[channel]))
    assert verdicts == {True, False}


def runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Rising numbers as half-open ranges that do not touch."""
    starts = [n for n in numbers if n - 1 not in numbers]
    return [(n, next(stop for stop in itertools.count(n) if stop not in numbers)) for n in starts]


def one_channel(accumulators: np.ndarray, channel: int) -> np.ndarray:
    spread = np.zeros((len(accumulators), 3), np.int32)
    spread[:, channel] = accumulators
    return spread


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bits", [31, 18])
def test_on_large_ranges_the_neighbours_of_every_change_agree(engine: str, bits: int) -> None:
    rng = np.random.default_rng(bits)
    layer = Layer(rng, engine, 12, 200, ties=False)
    object.__setattr__(layer.output, "scale", float(np.sqrt(200) * layer.input.scale * layer.sw.mean() * 90))
    found = prove(layer.rule(), layer.reach, bits)
    assert found.certified.any()
    for channel in range(12):
        low, high = extremes(layer, channel)
        changes = changes_of(layer, channel, low, high)
        steps = np.concatenate([changes + offset for offset in (-2, -1, 0, 1)] + [np.array([low, high])])
        steps = np.unique(steps[(steps >= low) & (steps <= high)])
        difference = np.abs(fixed(found, channel, steps, layer) - layer.codes(channel, steps))
        if found.certified[channel]:
            assert not difference.any()
        else:
            listed = set(itertools.chain.from_iterable(range(*part) for part in found.intervals(channel)))
            assert found.differing[channel] == len(listed) > 0
            assert {int(acc) for acc in steps[difference > 0]} == listed & set(steps.tolist())
            assert difference.max() == found.worst[channel]


def changes_of(layer: Layer, channel: int, low: int, high: int) -> np.ndarray:
    """The first accumulator of each code, by halving between two that have different codes."""
    pending, changes = [(low, high)], []
    while pending:
        pairs = np.array(pending)
        codes = [layer.codes(channel, pairs[:, side]) for side in (0, 1)]
        pending = []
        for (left, right), a, b in zip(pairs.tolist(), *codes, strict=True):
            if a != b and right == left + 1:
                changes.append(right)
            elif a != b:
                middle = (left + right) // 2
                pending += [(left, middle), (middle, right)]
    return np.array(sorted(changes))


def test_no_multiplier_is_overlooked() -> None:
    """For small widths every (M, S) is tried, and all B that its thresholds leave: if one will do, one was found."""
    rng = np.random.default_rng(5)
    answers = set()
    for _ in range(50):
        layer = Layer(rng, "fbgemm", 1, int(rng.integers(1, 3)), ties=bool(rng.integers(0, 2)), largest=6)
        low, high = extremes(layer, 0)
        accumulators = np.arange(low, high + 1)
        reach = Reachable(np.array([accumulators[0]]), np.array([accumulators[-1]]))
        found = prove(layer.rule(), reach, 7)
        exists = exhaustive(accumulators, layer.codes(0, accumulators), layer, 7)
        assert bool(found.certified[0]) == exists
        answers.add(exists)
    assert answers == {True, False}


def exhaustive(accumulators: np.ndarray, codes: np.ndarray, layer: Layer, bits: int) -> bool:
    low = layer.output.zero_point if layer.relu else 0
    for shift in range(25):
        multiplier = np.arange(1 << bits)[:, None]
        # code * 2^S <= acc * M + B < (code + 1) * 2^S, one side only at a clamp
        least = np.where(codes > low, (codes << shift) - accumulators * multiplier, -(2**60)).max(axis=1)
        most = np.where(codes < 255, ((codes + 1) << shift) - 1 - accumulators * multiplier, 2**60).min(axis=1)
        if np.any(least <= most):
            return True
    return False


def test_the_narrowest_multiplier_is_named() -> None:
    rng = np.random.default_rng(6)
    layer = Layer(rng, "qnnpack", 40, 6, ties=False)
    widest = prove(layer.rule(), layer.reach)
    assert len(np.unique(widest.bits)) > 2
    for bits in range(1, 32):
        found = prove(layer.rule(), layer.reach, bits)
        assert np.array_equal(found.certified, (widest.bits > 0) & (widest.bits <= bits))
        # The constants are those of the narrowest multiplier, whatever is allowed.
        chosen, same = (which.constants.planes()[:, found.certified] for which in (found, widest))
        assert np.array_equal(chosen, same)
    assert [m.bit_length() for m in widest.constants.multiplier[widest.certified].tolist()] == [
        bits for bits in widest.bits.tolist() if bits
    ]


def test_ties_that_go_to_even_have_no_certificate_and_the_count_is_known_by_hand() -> None:
    """m = 1/4: ties at 2, 6, 10, ... go up and down by turns, and no floor of a straight line does that."""
    rule = Requantization(0, 0, 255, multiplier=np.array([0.25], np.float32))
    found = prove(rule, Reachable(np.array([0]), np.array([400])))
    assert not found.certified[0]
    # Of the hundred ties from 2 to 398 every second one is wrong.
    assert (found.differing[0], found.worst[0], found.bits[0]) == (50, 1, 0)


@pytest.mark.parametrize("zero_point", [3, 0])
def test_a_conversion_that_wraps_round_is_followed_and_counted(zero_point: int) -> None:
    """With m = 4, sums that round to 2**29 and more leave int32, and x86's conversion makes them the smallest code.

    2**29 - 16 is a tie between binary32's 2**29 - 32 and 2**29, and goes to the even one.
    """
    rule = Requantization(zero_point, 0, 255, multiplier=np.array([4.0], np.float32), indefinite=True)
    reach = Reachable(np.array([-1000]), np.array([2**29 + 99]))
    found = prove(rule, reach)
    assert not found.certified[0]
    assert found.intervals(0) == [(2**29 - 16, 2**29 + 100)]
    assert (found.differing[0], found.worst[0], found.bits[0]) == (116, 255, 0)
    first = prove(rule, Reachable(np.array([-1000]), np.array([2**29 - 16])))
    assert (first.intervals(0), first.differing[0], first.worst[0]) == ([(2**29 - 16, 2**29 - 15)], 1, 255)
    ends = np.array([[0], [1000], [2**29 - 17], [2**29 - 16], [2**29 + 99]], np.int32)
    assert found.exact.apply(ends)[:, 0].tolist() == [zero_point, 255, 255, 0, 0]


def test_intervals_of_constants_that_are_far_off_are_joined_where_they_touch() -> None:
    """Seven codes, three accumulators or fewer apart, and slopes of no relation to them; both ends wrap round."""
    rng = np.random.default_rng(8)
    channels = 120
    first = np.cumsum(rng.integers(1, 4, (channels, 7)), axis=1)
    inside = Reachable(np.full(channels, -2), first[:, -1] + 2)
    reach = Reachable(inside.low - rng.integers(0, 3, channels), inside.high + rng.integers(0, 3, channels))
    exact = Thresholds(0, first, inside, 0)
    multiplier, offset, shift = (
        rng.integers(1, 9, channels),
        rng.integers(-6, 30, channels),
        rng.integers(0, 4, channels),
    )
    none = np.zeros(channels, np.int64)
    found = Certificate(31, FixedPoint(multiplier, offset, shift, 0, 7), reach, exact, none, none, none)
    lengths = set()
    for channel in range(channels):
        m, b, s = int(multiplier[channel]), int(offset[channel]), int(shift[channel])
        wrong = [
            acc
            for acc in range(int(reach.low[channel]), int(reach.high[channel]) + 1)
            if not inside.low[channel] <= acc <= inside.high[channel]
            or min(max((acc * m + b) >> s, 0), 7) != sum(acc >= at for at in first[channel])
        ]
        assert found.intervals(channel) == runs(wrong)
        lengths.add(len(runs(wrong)))
    assert {1, 2, 3, 4} <= lengths


def test_with_a_negative_zero_point_it_wraps_at_the_other_end() -> None:
    """-2**31 plus a zero point of -7 leaves int32 once more, at the top: the smallest sums get the largest code."""
    rule = Requantization(-7, -128, 127, multiplier=np.array([4.0], np.float32), indefinite=True)
    found = prove(rule, Reachable(np.array([-(2**29) - 50]), np.array([2**29 + 50])))
    # Rounded to binary32, -2**29 - 32 and what is above it are -2**29: still beyond what the conversion takes.
    assert found.intervals(0) == [(-(2**29) - 50, -(2**29) + 17)]
    ends = np.array([[-(2**29) - 50], [-(2**29) + 16], [-(2**29) + 17], [0], [2**29 + 50]], np.int32)
    assert found.exact.apply(ends)[:, 0].tolist() == [127, 127, -128, -7, 127]


def test_short_ranges_with_few_thresholds_have_true_certificates() -> None:
    """Here the slopes allowed end at simple fractions such as 1/2, which themselves are not allowed."""
    verdicts = []
    for high, m, bias in itertools.product(range(60), (1 / 3, 0.3, 0.4, 0.45, 0.21, 0.7, 0.9), (0.0, 0.3, 0.7)):
        constants = {"multiplier": np.array([m], np.float32), "bias": np.array([bias], np.float32)}
        found = prove(Requantization(0, 0, 255, **constants), Reachable(np.array([0]), np.array([high])))  # type: ignore[arg-type]
        sums = np.arange(high + 1)
        codes = np.rint((sums.astype(np.float32) + np.float32(bias)) * np.float32(m)).astype(int)
        values = (found.constants.multiplier, found.constants.offset, found.constants.shift)
        multiplier, offset, shift = (int(value[0]) for value in values)
        wrong = sum(max((acc * multiplier + offset) >> shift, 0) != code for acc, code in enumerate(codes.tolist()))
        assert (found.certified[0], found.differing[0]) == (wrong == 0, wrong)
        verdicts.append(wrong == 0)
    assert np.mean(verdicts) > 0.9


def test_channels_of_one_code_and_of_one_accumulator_are_certified() -> None:
    rule = Requantization(7, 0, 255, multiplier=np.array([1e-6, 0.5, 1.0], np.float32))
    reach = Reachable(np.array([-1000, 12, 300]), np.array([1000, 12, 900]))
    found = prove(rule, reach)
    assert found.certified.all()
    assert found.constants.apply(np.array([5, 12, 500], np.int32)).tolist() == [7, 13, 255]


def test_the_largest_shift_is_the_largest_that_leaves_room_for_a_sum() -> None:
    assert 255 << MOST_SHIFT < 2**62 <= 255 << (MOST_SHIFT + 1)


def test_both_ends_of_a_range_count() -> None:
    assert Reachable(np.array([-3, 5]), np.array([4, 5])).count.tolist() == [len(range(-3, 5)), 1]


@pytest.mark.parametrize("minimum", [255, 254, 253])
def test_layers_of_few_codes_are_certified(minimum: int) -> None:
    """A ReLU's zero point may leave three codes, two or one."""
    found = prove(
        Requantization(minimum, minimum, 255, multiplier=np.array([0.75], np.float32), indefinite=True),
        Reachable(np.array([-9]), np.array([9])),
    )
    accumulators = np.arange(-9, 10)[:, None].astype(np.int32)
    codes = [min(max(round(0.75 * acc) + minimum, minimum), 255) for acc in range(-9, 10)]
    assert found.certified.all()
    assert found.constants.apply(accumulators)[:, 0].tolist() == codes
    assert found.exact.apply(accumulators)[:, 0].tolist() == codes


def test_the_steepest_line_that_there_can_be_has_a_certificate() -> None:
    """From code 0 to code 255 in one accumulator: any slope above 254 will do, and 255 is the narrowest."""
    rule = Requantization(0, 0, 255, multiplier=np.array([255.0], np.float32))
    found = prove(rule, Reachable(np.array([0]), np.array([1])))
    assert (found.certified.tolist(), found.bits.tolist()) == ([True], [8])
    assert (found.constants.multiplier.tolist(), found.constants.shift.tolist()) == ([255], [0])


@pytest.mark.parametrize("bits", [0, 32, -1])
def test_a_width_that_there_is_not_is_refused(bits: int) -> None:
    rule = Requantization(0, 0, 255, multiplier=np.array([0.5], np.float32))
    with pytest.raises(ConfigurationError, match=f"not {bits}"):
        prove(rule, Reachable(np.array([0]), np.array([9])), bits)


def test_slopes_are_compared_as_fractions() -> None:
    """A slope allowed only between 1/3 and 1/3 + 10**-9 needs a multiplier of some 30 bits, and has one."""
    rule = Requantization(0, 0, 255, multiplier=np.array([1 / 3], np.float32))
    found = prove(rule, Reachable(np.array([0]), np.array([760])))
    m, s = int(found.constants.multiplier[0]), int(found.constants.shift[0])
    assert found.certified[0]
    assert abs(Fraction(m, 2**s) - Fraction(1, 3)) < Fraction(1, 700)


def test_a_multiplier_is_narrowed_where_the_sums_would_not_fit_64_bits() -> None:
    """Of 2**31 accumulators 31 bits fit, of one more 30 bits do. The thresholds are near to the range's lower end."""
    for low, high, widest in ((-(2**30), 2**30 - 1, 31), (-(2**30), 2**30, 30), (-(2**31), 2**31 - 1, 30)):
        m, bias = np.array([1e-6, 0.3, 1e-7], np.float32), np.full(3, -low, np.float32)
        rule = Requantization(7, -128, 127, multiplier=m, bias=bias)
        found = prove(rule, Reachable(np.full(3, low), np.full(3, high)))
        assert not found.certified.any()
        constants = (found.constants.multiplier, found.constants.offset)
        for multiplier, offset in zip(*(value.tolist() for value in constants), strict=True):
            assert multiplier.bit_length() == widest
            assert all(abs(acc * multiplier + offset) < 2**63 for acc in (low, high))


def test_channels_are_independent_of_their_number() -> None:
    """Of a hundred channels each is what it is alone."""
    rng = np.random.default_rng(7)
    layer = Layer(rng, "fbgemm", 100, 6, ties=False, largest=9)
    together = prove(layer.rule(), layer.reach, 12)
    assert set(together.certified.tolist()) == {True, False}
    for channel in range(100):
        one = np.array([channel])
        alone = prove(layer.rule().of_channels(one), Reachable(layer.reach.low[one], layer.reach.high[one]), 12)
        assert np.array_equal(alone.constants.planes()[:, 0], together.constants.planes()[:, channel])
        values = ((found.bits, found.differing, found.worst) for found in (alone, together))
        assert [value[0] for value in next(values)] == [value[channel] for value in next(values)]


def test_the_real_factor_is_the_product_of_all_that_multiply() -> None:
    def of(*values: float) -> np.ndarray:
        return np.array(values, np.float32)

    three = Requantization(9, 0, 255, scale_1=of(0.5, 2), scale_2=of(0.25), multiplier=of(3, 5), bias=of(7, 7))
    assert real_factor(three, 2).tolist() == [0.375, 2.5]
    assert real_factor(Requantization(9, 0, 255, scale_1=of(3), divisor=of(4, 8)), 2).tolist() == [0.75, 0.375]
    assert real_factor(Requantization(9, 0, 255), 3).tolist() == [1, 1, 1]


def neighbours(slope: float, bits: int) -> list[tuple[int, int]]:
    """M and S of the multiples of a slope by the largest power of two that leaves them below 2**bits."""
    exact = Fraction(slope)
    shift = max((s for s in range(MOST_SHIFT + 1) if abs(exact) * 2**s < 2**bits), default=0)
    scaled = exact * 2**shift
    return [(min(max(value, 1), 2**bits - 1), shift) for value in (math.floor(scaled), math.ceil(scaled))]


class Tried:
    """What fixed point makes of one channel, from the engine's code of each accumulator of a short range."""

    def __init__(self, low: int, codes: list[int], minimum: int, maximum: int) -> None:
        self.low, self.codes, self.minimum, self.maximum = low, codes, minimum, maximum
        high = low + len(codes) - 1
        steps = range(minimum + 1, maximum + 1)
        self.first = [(c, next((low + i for i, code in enumerate(codes) if code >= c), high + 1)) for c in steps]
        self.high = high

    def wrong(self, m: int, b: int, s: int) -> int:
        sums = range(self.low, self.high + 1)
        found = [min(max((acc * m + b) >> s, self.minimum), self.maximum) for acc in sums]
        return sum(code != other for code, other in zip(found, self.codes, strict=True))

    def offset(self, m: int, s: int) -> int:
        """The smallest B at an end of a threshold's range that meets the most."""

        def met(b: int) -> int:
            return sum(
                (at > self.high or (at * m + b) >> s >= c) and (at <= self.low or ((at - 1) * m + b) >> s < c)
                for c, at in self.first
            )

        return min({(c << s) - m * at for c, at in self.first}, key=lambda b: (-met(b), b))

    def best(self, near: list[float], bits: int) -> tuple[int, int, int]:
        pairs = {pair for slope in near for pair in neighbours(slope, bits)}
        _, m, s, b = min((self.wrong(m, self.offset(m, s), s), m, s, self.offset(m, s)) for m, s in pairs)
        return m, b, s


def short_layer(rng: np.random.Generator, channels: int) -> tuple[Requantization, Reachable]:
    """Few codes, all of a short range's accumulators; ties, and what binary32 loses of a large bias."""
    m = np.where(rng.integers(0, 2, channels), 2.0 ** -rng.integers(1, 4, channels), rng.uniform(0.05, 0.6, channels))
    bias = rng.integers(-40, 40, channels) / 2 + np.where(rng.integers(0, 2, channels), 2.0**21, 0)
    rule = Requantization(0, 3, 17, scale_1=m.astype(np.float32), bias=bias.astype(np.float32))
    start = (-bias / m).astype(np.int64)
    return rule, Reachable(start + rng.integers(-9, 30, channels), start + rng.integers(40, 160, channels))


@pytest.mark.parametrize("bits", [3, 6, 31])
def test_without_a_certificate_the_best_of_the_pairs_tried_is_taken(bits: int) -> None:
    """Next to the factor, to either end of the search for a slope, and to their middle: each decides somewhere."""
    rule, reach = short_layer(np.random.default_rng(bits), 150)
    found = prove(rule, reach, bits)
    exact = find_thresholds(rule, reach)
    ends = separating_slopes(points(exact))
    low, high = (ends.low_numerator / ends.low_denominator, ends.high_numerator / ends.high_denominator)
    decisive = set()
    for channel in np.flatnonzero(~found.certified):
        sums = np.arange(reach.low[channel], reach.high[channel] + 1)
        one = rule.of_channels(np.array([channel]))
        codes = one.apply(sums[:, None].astype(np.int32))[:, 0].tolist()
        near = [float(rule.scale_1[channel]), low[channel], (low[channel] + high[channel]) / 2, high[channel]]  # type: ignore[index]
        tried = Tried(int(sums[0]), codes, 3, 17)
        expected = tried.best(near, bits)
        values = (found.constants.multiplier, found.constants.offset, found.constants.shift)
        assert tuple(int(value[channel]) for value in values) == expected
        assert found.differing[channel] == tried.wrong(*expected)
        decisive |= {i for i in range(4) if tried.best(near[:i] + near[i + 1 :], bits) != expected}
    assert bits < 31 or decisive == {0, 1, 2, 3}
