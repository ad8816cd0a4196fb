"""Average pools are PyTorch's, channel by channel: every engine, layout and kernel set."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from witness import ENGINES, KERNEL_SETS, Case, PyTorch, affine, codes, pair, styles

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.arithmetic.float_sum import mean_channels_last
from accelsim.arithmetic.pooling import Layout, average_rules
from accelsim.arithmetic.requantize import Step
from accelsim.errors import ModelError

LAYOUTS: tuple[Layout, ...] = ("contiguous", "channels_last")
#: Even numbers of elements that are no powers of two tell a quotient from a product with a rounded reciprocal.
KERNELS = ((2, 2), (2, 3), (2, 5), (6, 1), (3, 4), (7, 2), (4, 4), (3, 6), (10, 1), (3, 3))


def pixel(
    engine: str, kernels: KernelSet, kind: Any, grid: Affine, layout: Layout, window: np.ndarray, **more: Any
) -> np.ndarray:
    """The output pixel (N, C) of a window (N, C, *kernel); `divisor` and `kernel` in `more` as in average_rules."""
    kernel = more.pop("kernel", window.shape[2:])
    flat = window.reshape(*window.shape[:2], -1)
    spans = average_rules(engine, kernels, kind, grid, kernel, flat.shape[1], layout, **more)
    assert spans[-1].stop == flat.shape[1]
    return np.concatenate([span.rule.apply(flat[:, span.start : span.stop]) for span in spans], axis=1)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["window", "adaptive", "mean"])
def test_an_average_pool_is_pytorchs(
    pytorch: PyTorch, part: int, engine: str, kernels: KernelSet, dtype: str, kind: Any
) -> None:
    rng = np.random.default_rng([10, part])
    cases = []
    for index, style in styles(140):
        height, width = KERNELS[index % 10]
        layout = LAYOUTS[index // 10 % 2]
        channels, outputs = 2 + (index * 3) % 69, 1 if kind == "mean" else 2
        grid = affine(rng, style, dtype, index)
        x = codes(rng, (2, channels, height * outputs, width * outputs), dtype)
        arguments = {
            "window": {"kernel_size": [height, width]},
            "adaptive": {"output_size": [outputs, outputs]},
            "mean": {"dim": [2, 3], "keepdim": True},
        }[kind]

        def check(
            _: Any,
            x: np.ndarray = x,
            grid: Affine = grid,
            layout: Layout = layout,
            height: int = height,
            width: int = width,
        ) -> np.ndarray:
            if kind == "mean" and layout == "channels_last" and (engine != "qnnpack" or dtype == "int8"):
                columns = x.reshape(*x.shape[:2], -1).transpose(0, 2, 1)
                return mean_channels_last(columns, grid)[:, :, None, None]
            n = range(x.shape[2] // height)
            rows = [[x[:, :, i * height : (i + 1) * height, j * width : (j + 1) * width] for j in n] for i in n]
            return np.stack(
                [np.stack([pixel(engine, kernels, kind, grid, layout, w) for w in row], axis=-1) for row in rows],
                axis=-2,
            )

        note = (grid, layout, channels, height, width)
        cases.append(Case("average_pool", (x, pair(grid), layout, kind, arguments), check, note=note))
    pytorch.compare(
        {"window": "avg_pool2d", "adaptive": "adaptive_avg_pool2d", "mean": "mean"}[kind], engine, kernels, cases
    )


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_padding_a_divisor_and_ceil_mode_change_what_is_divided_by(
    pytorch: PyTorch, part: int, engine: str, kernels: KernelSet
) -> None:
    rng = np.random.default_rng([11, part])
    cases = []
    size, kernel, stride, padding = 7, 3, 3, 1
    choices = itertools.product((False, True), (False, True), (None, 5), LAYOUTS)
    for index, (include, ceil, divisor, layout) in enumerate(choices):
        grid = affine(rng, "ties", "uint8", index)
        x = codes(rng, (1, 19, size, size), "uint8")
        arguments = {
            "kernel_size": kernel,
            "stride": stride,
            "padding": padding,
            "count_include_pad": include,
            "ceil_mode": ceil,
            "divisor_override": divisor,
        }

        def check(
            answer: np.ndarray, x: np.ndarray = x, grid: Affine = grid, layout: Layout = layout, given: Any = arguments
        ) -> np.ndarray:
            result = np.zeros_like(answer)
            for i, j in np.ndindex(answer.shape[2:]):
                starts = [at * stride - padding for at in (i, j)]
                padded = [min(start + kernel, size + padding) - start for start in starts]
                low, high = [max(start, 0) for start in starts], [min(start + kernel, size) for start in starts]
                window = x[:, :, low[0] : high[0], low[1] : high[1]]
                count = int(np.prod(padded)) if given["count_include_pad"] else window.shape[2] * window.shape[3]
                divisor = given["divisor_override"] or count
                ceil = given["ceil_mode"]
                if engine == "qnnpack" and not ceil:
                    divisor = None  # QNNPACK knows no divisor but the whole kernel
                more = {"divisor": divisor, "kernel": (kernel, kernel), "ceil_mode": ceil}
                result[:, :, i, j] = pixel(engine, kernels, "window", grid, layout, window, **more)
            return result

        cases.append(
            Case("average_pool", (x, pair(grid), layout, "window", arguments), check, note=(grid, layout, arguments))
        )
    pytorch.compare("avg_pool2d", engine, kernels, cases)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_an_adaptive_pool_with_windows_of_several_sizes_is_pytorchs(
    pytorch: PyTorch, part: int, engine: str, kernels: KernelSet
) -> None:
    rng = np.random.default_rng([12, part])
    cases = []
    for index, (outputs, layout) in enumerate(itertools.product((2, 3, 4), LAYOUTS * 4)):
        grid = affine(rng, "ties", "uint8", index)
        x = codes(rng, (1, 3 + index, 7, 5), "uint8")

        def check(
            _: Any, x: np.ndarray = x, grid: Affine = grid, layout: Layout = layout, outputs: int = outputs
        ) -> np.ndarray:
            result = np.zeros((1, x.shape[1], outputs, outputs), np.int32)
            for i, j in np.ndindex(outputs, outputs):
                top, bottom = i * 7 // outputs, -(-(i + 1) * 7 // outputs)
                left, right = j * 5 // outputs, -(-(j + 1) * 5 // outputs)
                # Windows of several sizes are ATen's, whatever the engine.
                result[:, :, i, j] = pixel("fbgemm", kernels, "adaptive", grid, layout, x[:, :, top:bottom, left:right])
            return result

        arguments = (x, pair(grid), layout, "adaptive", {"output_size": [outputs, outputs]})
        cases.append(Case("average_pool", arguments, check, note=(grid, layout, outputs)))
    pytorch.compare("adaptive_avg_pool2d", engine, kernels, cases)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("kind", ["window", "adaptive"])
def test_a_pool_of_three_axes_is_pytorchs(pytorch: PyTorch, part: int, kernels: KernelSet, kind: Any) -> None:
    rng = np.random.default_rng([13, part])
    cases = []
    for index, style in styles(40):
        kernel = ((2, 2, 2), (2, 3, 1), (1, 2, 5), (3, 2, 2))[index % 4]
        grid = affine(rng, style, "uint8", index)
        x = codes(rng, (1, 2 + index, *kernel), "uint8")
        arguments = {"kernel_size": list(kernel)} if kind == "window" else {"output_size": [1, 1, 1]}

        def check(_: Any, x: np.ndarray = x, grid: Affine = grid) -> np.ndarray:
            return pixel("fbgemm", kernels, kind, grid, "contiguous", x)[:, :, None, None, None]

        cases.append(Case("average_pool", (x, pair(grid), "contiguous", kind, arguments), check, note=(grid, kernel)))
    pytorch.compare({"window": "avg_pool3d", "adaptive": "adaptive_avg_pool3d"}[kind], "fbgemm", kernels, cases)


def test_a_mean_without_an_integer_rule_says_so() -> None:
    with pytest.raises(ModelError, match="summed in binary32"):
        average_rules("fbgemm", KernelSet("avx2", "avx2"), "mean", Affine(1.0, 0, "uint8"), (2, 2), 4, "channels_last")


@pytest.mark.parametrize(
    ("aten", "kind", "layout", "kernel", "body"),
    [
        ("avx2", "window", "channels_last", (2, 2), 72),
        ("avx512", "window", "channels_last", (2, 2), 64),
        ("avx512", "window", "contiguous", (2, 2, 2), 64),
        ("avx2", "adaptive", "channels_last", (2, 2), 72),
        ("avx512", "adaptive", "channels_last", (2, 2), 72),
        ("default", "window", "channels_last", (2, 2), 0),
        ("avx512", "window", "contiguous", (2, 2), 0),
    ],
)
def test_a_pixel_has_whole_vectors_and_a_tail(aten: Any, kind: Any, layout: Layout, kernel: Any, body: int) -> None:
    """Of 75 channels: avg_pool's vectors have 16 with AVX-512, all others 8, the scalar kernels and layouts none."""
    grid = Affine(0.5, 3, "uint8")
    found = average_rules("fbgemm", KernelSet(aten, "avx2"), kind, grid, kernel, 75, layout)
    assert [(span.start, span.stop) for span in found] == [(0, body), (body, 75)][not body :]
    assert found[-1].rule.requantization.steps & Step.ZERO_POINT_FIRST
    assert not (body and found[0].rule.requantization.steps & Step.ZERO_POINT_FIRST)


@pytest.mark.parametrize("kind", ["window", "adaptive"])
def test_uniform_lanes_are_all_the_vector_bodys(kind: Any) -> None:
    arguments: tuple[Any, ...] = (kind, Affine(0.5, 3, "uint8"), (2, 2), 75, "channels_last")
    (every,) = average_rules("fbgemm", KernelSet("uniform", "avx2"), *arguments)
    body, _ = average_rules("fbgemm", KernelSet("avx2", "avx2"), *arguments)
    assert (every.start, every.stop) == (0, 75)
    assert every.rule.requantization.steps == body.rule.requantization.steps
