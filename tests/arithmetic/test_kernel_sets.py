"""How often ATen's kernels differ: between the kernel sets, the places of an element, and threads.

The figures of `docs/integer_arithmetic.md` ("How much it matters"), each between bounds that a few standard deviations
leave. What is compared are answers of PyTorch's kernels; where a place or a share is foretold, it is counted by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from witness import KERNEL_SETS, Case, PyTorch, answers, codes, question

from accelsim.arithmetic.engines import KernelSet

DEFAULT, AVX2, AVX512, _ = KERNEL_SETS

Grid = tuple[float, int]


ZEROS = (3, 7, 101, 128, 200)
STEP, OUT = 0.125, 0.25


def vector(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return codes(rng, shape, "uint8")


def unary(operator: str, more: Callable[[Grid], tuple[Any, ...]]) -> Callable[..., Case]:
    def make(rng: np.random.Generator, size: int, zero: int) -> Case:
        return question("unary", vector(rng, 1, size), (STEP, 120), operator, more((OUT, zero)))

    return make


def sum_of(relu: bool) -> Callable[..., Case]:
    def make(rng: np.random.Generator, size: int, zero: int) -> Case:
        return question("add", vector(rng, size), vector(rng, size), (STEP, 117), (STEP, 130), (OUT, zero), relu)

    return make


def product(rng: np.random.Generator, size: int, zero: int) -> Case:
    return question("multiply", vector(rng, size), vector(rng, size), (STEP, 117), (STEP, 130), (STEP, zero))


def quantized(rng: np.random.Generator, size: int, zero: int) -> Case:
    return question(
        "quantize", rng.integers(-2000, 2000, size).astype(np.float32) * np.float32(STEP), (OUT, zero), "uint8"
    )


def pool(layout: str, kind: str, arguments: dict[str, Any]) -> Callable[..., Case]:
    def make(rng: np.random.Generator, size: int, zero: int) -> Case:
        return question("average_pool", vector(rng, 2, size, 4, 4), (STEP, zero), layout, kind, arguments)

    return make


def concatenation(layout: str) -> Callable[..., Case]:
    def make(rng: np.random.Generator, size: int, zero: int) -> Case:
        parts = [vector(rng, 2, size, 2, 3) for _ in range(2)]
        return question("concatenate", parts, [(STEP, 117), (OUT, 130)], layout, (OUT, zero), False)

    return make


def grouped(layout: str) -> Callable[..., Case]:
    def make(rng: np.random.Generator, size: int, zero: int) -> Case:
        return question(
            "group_norm", vector(rng, 2, 4, size, 2), (STEP, 117), layout, 2, None, None, 1e-5, (2**-5, zero)
        )

    return make


def resized(layout: str) -> Callable[..., Case]:
    def make(rng: np.random.Generator, size: int, zero: int) -> Case:
        arguments = {"scale_factor": 2, "mode": "bilinear"}
        return question("interpolate", vector(rng, 1, size, 3, 4), (STEP, zero), layout, arguments)

    return make


def rowwise(function: str) -> Callable[..., Case]:
    def make(rng: np.random.Generator, size: int, zero: int) -> Case:
        more = (None, None, 1e-5, (2**-5, zero)) if function == "layer_norm" else (1, (2**-8, zero))
        return question(function, vector(rng, 3, size), (STEP, 117), *more)

    return make


def of_engine(engine: str, made: Case) -> Case:
    """QNNPACK's sigmoid takes one output grid only."""
    if engine == "qnnpack" and made.function == "unary" and made.arguments[2] == "sigmoid":
        return question("unary", *made.arguments[:3], (2**-8, 0))
    return made


#: ATen's default kernels add the zero point before the rounding and AVX2's after it, or the other way round: ties of
#: whole vectors differ where it is odd. Each with the least and the largest share of elements that do; the share of
#: exact ties is the operator's own (half of the sums; of a hard swish three in eight of those not clamped).
BY_KERNELS: dict[str, tuple[Callable[..., Case], float, float]] = {
    "add": (sum_of(False), 0.3, 0.5),
    "add_relu": (sum_of(True), 0.2, 0.5),
    "hardswish": (unary("hardswish", lambda out: out), 0.2, 0.5),
    "leaky_relu": (unary("leaky_relu", lambda out: (0.5, *out)), 0.3, 0.5),
    "elu": (unary("elu", lambda out: (0.5, *out)), 0.2, 0.5),
    "cat, channels_last": (concatenation("channels_last"), 0.1, 0.4),
    "avg_pool, channels_last": (pool("channels_last", "window", {"kernel_size": 2}), 0.2, 0.5),
}
#: The same under every kernel set.
ALIKE: dict[str, Callable[..., Case]] = {
    "quantize": quantized,
    "mul": product,
    "cat": concatenation("contiguous"),
    "sigmoid": unary("sigmoid", lambda out: out),
    "tanh": unary("tanh", lambda out: ()),
    "hardsigmoid": unary("hardsigmoid", lambda out: ()),
    "add_scalar": unary("add_scalar", lambda out: (0.3,)),
    "mul_scalar": unary("mul_scalar", lambda out: (0.3,)),
    "avg_pool": pool("contiguous", "window", {"kernel_size": 2}),
    "adaptive_avg_pool": pool("contiguous", "adaptive", {"output_size": 2}),
    "adaptive_avg_pool, channels_last": pool("channels_last", "adaptive", {"output_size": 2}),
    "mean": pool("contiguous", "mean", {"dim": [2, 3]}),
    "layer_norm": rowwise("layer_norm"),
    "group_norm": grouped("contiguous"),
    "group_norm, channels_last": grouped("channels_last"),
    "softmax": rowwise("softmax"),
    "bilinear": resized("contiguous"),
    "bilinear, channels_last": resized("channels_last"),
}
#: Of those that differ, what qnnpack leaves to ATen.
LEFT_TO_ATEN = ("leaky_relu", "elu", "cat, channels_last")
ENGINES_APART = ("fbgemm", "qnnpack", pytest.param("onednn", marks=pytest.mark.full))


def asked(
    pytorch: PyTorch, engine: str, kernels: KernelSet, make: Callable[..., Case], sizes: range, zeros: tuple[int, ...]
) -> np.ndarray:
    rng = np.random.default_rng(53)
    questions = [of_engine(engine, make(rng, size, zeros[size % len(zeros)])) for size in sizes]
    return np.concatenate([answer.ravel() for answer in answers(pytorch, engine, kernels, questions)])


def differs(engine: str, operator: str) -> bool:
    return operator in BY_KERNELS and (engine != "qnnpack" or operator in LEFT_TO_ATEN)


@pytest.mark.parametrize("engine", ENGINES_APART)
@pytest.mark.parametrize("operator", [*BY_KERNELS, *ALIKE])
def test_atens_default_kernels_differ_from_avx2s_in_the_ties_of_some(
    pytorch: PyTorch, engine: str, operator: str
) -> None:
    make = BY_KERNELS[operator][0] if operator in BY_KERNELS else ALIKE[operator]
    plain, avx2 = (asked(pytorch, engine, kernels, make, range(1, 140), ZEROS) for kernels in (DEFAULT, AVX2))
    assert np.any(plain != avx2) == differs(engine, operator)
    if differs(engine, operator):
        _, least, most = BY_KERNELS[operator]
        for zero, low, high in ((101, least, most), (100, 0, 0)):
            whole = (asked(pytorch, engine, kernels, make, range(128, 129), (zero,)) for kernels in (DEFAULT, AVX2))
            assert low <= np.mean(np.not_equal(*whole)) <= high


@pytest.mark.parametrize("engine", ENGINES_APART)
@pytest.mark.parametrize("operator", [*BY_KERNELS, *ALIKE])
def test_avx2_and_avx512_differ_in_one_pool_alone(pytorch: PyTorch, engine: str, operator: str) -> None:
    make = BY_KERNELS[operator][0] if operator in BY_KERNELS else ALIKE[operator]
    avx2, avx512 = (asked(pytorch, engine, kernels, make, range(1, 140), ZEROS) for kernels in (AVX2, AVX512))
    # The vector body of that pool is longer; nothing else has another end of its body.
    assert np.any(avx2 != avx512) == (differs(engine, operator) and operator == "avg_pool, channels_last")


@pytest.mark.parametrize(
    ("operator", "least"), [(name, 0.005) for name in ("hardswish", "leaky_relu", "elu", "sigmoid")]
)
def test_of_some_operators_a_few_codes_depend_on_the_place(pytorch: PyTorch, operator: str, least: float) -> None:
    rng = np.random.default_rng(54)
    grids = [[(float(scale), int(rng.integers(0, 256))) for scale in rng.uniform(0.001, 0.1, 2)] for _ in range(40)]
    assert placed_share(pytorch, operator, grids) == 0
    grids = [[(float(2.0**power), int(rng.integers(0, 256))) for power in rng.integers(-6, 3, 2)] for _ in range(80)]
    assert least < placed_share(pytorch, operator, grids) < 0.1


def test_a_threshold_whose_value_is_halfway_between_two_codes_depends_on_the_place(pytorch: PyTorch) -> None:
    for value, differing in ((-0.0625, 138 / 256), (-0.125, 0)):
        assert placed_share(pytorch, "threshold", [[(0.125, 137)]], (0.0, value)) == differing
    assert placed_share(pytorch, "tanh", [[(2.0**-power, 137)] for power in range(9)], ()) == 0


@pytest.mark.parametrize("operator", ["hardswish", "leaky_relu", "elu"])
def test_no_place_differs_with_the_default_kernels_nor_with_qnnpacks_own_hard_swish(
    pytorch: PyTorch, operator: str
) -> None:
    rng = np.random.default_rng(57)
    grids = [[(float(2.0**power), int(rng.integers(0, 256))) for power in rng.integers(-6, 3, 2)] for _ in range(40)]
    assert placed_share(pytorch, operator, grids, kernels=DEFAULT) == 0
    assert (placed_share(pytorch, operator, grids, engine="qnnpack") == 0) == (operator == "hardswish")


def placed_share(
    pytorch: PyTorch,
    operator: str,
    grids: list[list[Grid]],
    more: tuple[Any, ...] | None = None,
    *,
    engine: str = "fbgemm",
    kernels: KernelSet = AVX2,
) -> float:
    """Of the 256 codes, how many the vector body makes other ones of than the loop over what is left."""
    every = np.arange(256, dtype=np.uint8)
    shares = []
    for grid, *out in grids:
        given = more if more is not None else (*([0.5] if operator in ("leaky_relu", "elu") else []), *out[0])
        parts = [every, *every.reshape(-1, 32)]  # four passes of the vector body; eight ends
        questions = [question("unary", part[None], grid, operator, given) for part in parts]
        body, *ends = answers(pytorch, engine, kernels, questions)
        shares.append(np.mean(body[0] != np.concatenate(ends, axis=1)[0]))
    return float(np.mean(shares))


def test_two_threads_move_the_ends_of_the_vector_body(pytorch: PyTorch) -> None:
    count, half = 100_000, 50_000
    a, b = codes(np.random.default_rng(55), (2, count), "uint8")
    grid, out = (0.25, 3), (0.5, 101)
    one, two = answers(
        pytorch, "fbgemm", AVX2, [question("add", a, b, grid, grid, out, threads=threads) for threads in (1, 2)]
    )
    place = np.arange(count)
    ended = [place >= count - count % 64, place % half >= half - half % 64]
    sums = a.astype(int) + b - 6
    ties = (sums % 2 == 1) & (np.abs(sums / 2 + 101 - 127.5) < 127)
    assert np.array_equal(one != two, ties & (ended[0] != ended[1]))
    assert 2 <= np.count_nonzero(one != two) <= 32


def test_a_mean_over_channels_last_pixels_is_no_integer_sum(pytorch: PyTorch) -> None:
    # It is a sum of binary32 numbers, whose errors send about one in ten of the ties another way, and nothing else.
    rng, differing, undecided, total = np.random.default_rng(56), 0, 0, 0
    for _ in range(40):
        x, grid = codes(rng, (8, 70, 4, 4), "uint8"), (float(rng.uniform(0.001, 0.1)), int(rng.integers(0, 256)))
        arguments = (x, grid, "channels_last", "mean", {"dim": [2, 3]})
        (made,) = answers(pytorch, "fbgemm", AVX2, [question("average_pool", *arguments)])
        sums = (x.astype(int) - grid[1]).sum((2, 3))
        different = made != np.clip(np.rint(sums / 16 + grid[1]), 0, 255)
        ties = sums % 16 == 8
        assert not np.any(different & ~ties)
        differing, undecided, total = differing + different.sum(), undecided + ties.sum(), total + ties.size
    assert 0.004 < differing / total < 0.016
    assert 0.05 < differing / undecided < 0.2
