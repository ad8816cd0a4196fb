"""Max pools and concatenations of quantised tensors are PyTorch's: both layouts, odd and even sizes, every engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from witness import ENGINES, KERNEL_SETS, Case, PyTorch, affine, codes, pair, styles

from accelsim.arithmetic import lanes
from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.network import Concatenate, MaxPool, Network, Value
from accelsim.network.reference import apply

LAYOUTS = ("contiguous", "channels_last")
#: Channels that the vector loops of a channels_last concatenation take whole multiples of (ATen `qcat_nhwc_kernel`).
VECTOR = 8
#: Kernel, stride, padding and dilation of one axis, in turn.
WINDOWS = ((2, 2, 0, 1), (3, 2, 1, 1), (3, 1, 1, 2), (1, 1, 0, 1), (5, 3, 2, 1), (2, 1, 1, 3))


def network(engine: str, node: Any, values: dict[str, np.ndarray], result: Any) -> Network:
    """A network of one node; the affine maps do not matter to it."""
    made = {
        name: Value(name, array.shape, Affine(1.0, 0, str(array.dtype)), tuple(range(array.ndim)))  # type: ignore[arg-type]
        for name, array in {**values, node.name: result}.items()
    }
    return Network(engine, KERNEL_SETS[0], made, (node,), tuple(values), (node.name,))


def misread(window: tuple[int, int, int, int]) -> bool:
    """Whether QNNPACK takes pixels of the edge for the padding that are not in the window."""
    return window[2] > 0 and window[3] > 1


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_max_pool_is_pytorchs(pytorch: PyTorch, part: int, engine: str, kernels: KernelSet, axes: int) -> None:
    if engine == "qnnpack" and axes == 3:
        return  # there is none
    rng = np.random.default_rng([27, part, axes])
    cases = []
    for index in range(70):
        dtype = ("uint8", "int8")[index % 2]
        layout = LAYOUTS[index // 2 % 2] if axes == 2 else "contiguous"
        windows = [WINDOWS[(index + 2 * axis) % len(WINDOWS)] for axis in range(axes)]
        kernel, stride, padding, dilation = (tuple(values) for values in zip(*windows, strict=True))
        if engine == "qnnpack" and dtype == "uint8" and axes < 3 and any(map(misread, windows)):
            dilation = (1,) * axes
        sizes = [7 + int(rng.integers(0, 5)) for _ in range(axes)]
        x = codes(rng, (2, 1 + (index * 29 + part) % 70, *sizes), dtype)
        if index % 5 == 0:
            x[:] = np.iinfo(dtype).min  # the padding is not larger
        arguments = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}

        def check(answer: np.ndarray, x: np.ndarray = x, given: Any = arguments) -> np.ndarray:
            pads = tuple((pad, pad) for pad in given["padding"])
            node = MaxPool("y", ("x",), given["kernel_size"], given["stride"], pads, given["dilation"])
            return apply(network(engine, node, {"x": x}, answer), node, [x])

        grid = affine(rng, "random", dtype, index)
        note = (x.shape, layout, arguments)
        cases.append(Case("max_pool", (x, pair(grid), layout, arguments), check, note=note))
    pytorch.compare(f"max_pool{axes}d", engine, kernels, cases)


def test_qnnpack_takes_the_edge_for_the_padding_of_a_dilated_max_pool(pytorch: PyTorch) -> None:
    x = np.array([[[200, 30, 20, 15, 5]]], np.uint8)
    arguments = {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 2}
    case = Case("max_pool", (x, (1.0, 0), "contiguous", arguments), lambda _: x)
    (right,) = pytorch.ask("fbgemm", KERNEL_SETS[0], [case])
    (wrong,) = pytorch.ask("qnnpack", KERNEL_SETS[0], [case])
    # The first window holds elements 1 and 3 and one of padding, which QNNPACK reads from element 0.
    assert (right[0, 0, 0], wrong[0, 0, 0]) == (30, 200)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("relu", [False, True], ids=["cat", "cat_relu"])
def test_a_concatenation_of_several_parts_is_pytorchs(
    pytorch: PyTorch, part: int, engine: str, kernels: KernelSet, layout: str, relu: bool
) -> None:
    """Each part is requantised by itself; channels_last, each pixel of a part has a vector body and a tail."""
    rng = np.random.default_rng([28, part])
    every = np.arange(256, dtype=np.uint8)
    kept = [(index, style) for index, style in styles(70) if style in ("ties", "near ties", "random")]
    inputs, tables = [], []
    for index, style in kept:
        out = affine(rng, style, "uint8", index + 5)
        grids = [affine(rng, style, "uint8", index + 20 * place) for place in range(3)]
        sizes = [1 + (index * 29 + 31 * place + part) % 70 for place in range(3)]
        inputs.append((grids, [codes(rng, (2, size, 3, 2), "uint8") for size in sizes], out))
        # Pixels of 256 channels are all body, those of one channel all tail. Either is channels_last as well.
        shapes = ((1, 256, 1, 1), (1, 1, 16, 16)) if layout == "channels_last" else ((1, 4, 8, 8),) * 2
        for grid in grids:
            for pixels in map(every.reshape, shapes):
                tables.append(Case("concatenate", ([pixels], [pair(grid)], layout, pair(out), relu), lambda _: every))
    found = [np.asarray(answer).reshape(-1) for answer in pytorch.ask(engine, kernels, tables)]
    cases, differ = [], 0
    for number, (grids, parts, out) in enumerate(inputs):
        pieces = []
        for place, x in enumerate(parts):
            body, tail = found[6 * number + 2 * place : 6 * number + 2 * place + 2]
            differ += int((body != tail).sum())
            spans = lanes.rows(x.shape[1], x.shape[1], VECTOR, body, tail)
            pieces.append(np.concatenate([span.rule[x[:, span.start : span.stop]] for span in spans], axis=1))

        def check(answer: np.ndarray, pieces: Any = pieces) -> np.ndarray:
            names = [f"x{place}" for place in range(len(pieces))]
            node = Concatenate("y", tuple(names), 1)
            return apply(network(engine, node, dict(zip(names, pieces, strict=True)), answer), node, pieces)

        arguments = (parts, [pair(grid) for grid in grids], layout, pair(out), relu)
        cases.append(Case("concatenate", arguments, check, note=(grids, out, [x.shape for x in parts])))
    pytorch.compare("cat_relu" if relu else "cat", engine, kernels, cases)
    assert bool(differ) == (layout == "channels_last")
