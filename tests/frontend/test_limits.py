"""Layers whose biases, scales and sums lie at the limits of int32 and binary32: PyTorch's codes, or an error by name.

PyTorch's kernels answer in this process; the machine is compared with what they answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import accelsim
from accelsim.arithmetic.engines import ENGINES
from accelsim.arithmetic.onednn import ConvolutionShape
from accelsim.errors import AccelsimError, CompileError, ModelError
from accelsim.frontend.operators.matrix import leaves_groups
from accelsim.hardware.configuration import Arithmetic
from accelsim.network import Convolution, Linear
from accelsim.network.substitution import layer_unit

Q = torch.ops.quantized
EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")
ARITHMETICS: tuple[Any, ...] = ("float32_exact", "thresholds", {"fixed_point": {"multiplier_bits": 31}})


@pytest.fixture(autouse=True)
def engine_of_before() -> Any:
    before = torch.backends.quantized.engine
    yield
    torch.backends.quantized.engine = before


def quantized(values: Any, scale: float, zero_point: int, dtype: torch.dtype = torch.quint8) -> torch.Tensor:
    return torch.quantize_per_tensor(torch.tensor(values), scale, zero_point, dtype)


def weight(codes: Any, scales: list[float], per_channel: bool = True, zeros: Any = None) -> torch.Tensor:
    codes = torch.tensor(codes, dtype=torch.int8)
    zero_points = torch.zeros(len(scales), dtype=torch.long) if zeros is None else torch.tensor(zeros)
    if per_channel:
        return torch._make_per_channel_quantized_tensor(codes, torch.tensor(scales, dtype=torch.double), zero_points, 0)
    return torch._make_per_tensor_quantized_tensor(codes, scales[0], int(zero_points[0]))


def linear(codes: Any, scales: list[float], bias: list[float]) -> Any:
    return Q.linear_prepack(weight(codes, scales), torch.tensor(bias))


def on_machine(network: accelsim.Network, x: torch.Tensor, arithmetic: Any) -> np.ndarray:
    program = accelsim.compile(network, EDGE.replace(**{"requant_unit.arithmetic": arithmetic}), effort=0)
    return accelsim.simulate(program, x.int_repr().numpy()).outputs[0].quantized


def check(function: Any, x: torch.Tensor, engine: str, arithmetics: tuple[Any, ...] = ARITHMETICS) -> np.ndarray:
    """PyTorch's codes, which the reference and the machine must have too, or refuse with the layer's name."""
    expected = function(x).int_repr().numpy()
    network = accelsim.extract(function, x, engine=engine)
    (node,) = network.nodes
    (output,) = network.run(x.int_repr().numpy())
    assert np.array_equal(output.quantized, expected)
    for arithmetic in arithmetics:
        try:
            found = on_machine(network, x, arithmetic)
        except AccelsimError as error:
            assert node.name in str(error), arithmetic  # noqa: PT017
            assert "int32" in str(error), arithmetic  # noqa: PT017
            continue
        certificate = None
        if isinstance(node, Convolution | Linear):
            certificate = layer_unit(network, node, Arithmetic.model_validate(arithmetic)).certificate
        axis = 1 if expected.ndim > 2 else -1
        wrong = np.moveaxis(found != expected, axis, -1)
        assert not wrong[..., slice(None) if certificate is None else certificate.certified].any(), arithmetic
    return expected


def test_qnnpacks_bias_saturates() -> None:
    torch.backends.quantized.engine = "qnnpack"
    packed = linear([[0]], [2**-23], [1.5])
    assert check(lambda x: Q.linear(x, packed, 0.01, 0), quantized([[0.3]], 0.004, 0), "qnnpack").tolist() == [[102]]


def test_a_pruned_channel_of_a_convolution_gets_the_bias_that_qnnpack_packs() -> None:
    """The largest int32 passes through binary32 on its way into a convolution's weights, and comes back as the least.

    Not where the convolution is a product of matrices.
    """
    torch.backends.quantized.engine = "qnnpack"
    x = quantized(np.full((1, 1, 3, 3), 0.3, np.float32), 0.004, 0)
    for kernel, code in ((1, 102), (2, 0), (3, 0)):
        zeros = torch.quantize_per_tensor(torch.zeros(1, 1, kernel, kernel), 2.0**-23, 0, torch.qint8)
        packed = Q.conv2d_prepack(zeros, torch.tensor([1.5]), [1, 1], [0, 0], [1, 1], 1)
        answer = check(lambda x, packed=packed: Q.conv2d(x, packed, 0.01, 0), x, "qnnpack")
        assert set(answer.ravel().tolist()) == {code}


@pytest.mark.parametrize("engine", ["fbgemm", "x86"])
def test_a_scaled_sum_that_leaves_int32_becomes_the_least_code(engine: str) -> None:
    torch.backends.quantized.engine = engine
    packed = linear([[1]], [2**-7], [2.2e8])
    assert check(lambda x: Q.linear(x, packed, 0.1, 128), quantized([[0.0]], 0.5, 128), engine).tolist() == [[0]]


@pytest.mark.parametrize(
    ("engine", "codes"), [("fbgemm", (0, 0, 0)), ("qnnpack", (255, 0, 0)), ("onednn", (255, 0, 0))]
)
def test_biases_that_are_not_finite(engine: str, codes: tuple[int, ...]) -> None:
    torch.backends.quantized.engine = engine
    packed = linear([[0]] * 3, [2**-7] * 3, [float("inf"), float("-inf"), float("nan")])
    layer = lambda x: Q.linear(x, packed, 0.1, 128)  # noqa: E731
    x = quantized([[0.25]], 0.5, 128)
    if engine == "onednn":  # the codes of AVX-512's kernels are not known
        assert check_or_refuse(layer, x, engine, "bias") in (None, [list(codes)])
        return
    assert check(layer, x, engine).tolist() == [list(codes)]


def test_a_bias_that_is_no_number_survives_a_file(tmp_path: Path) -> None:
    torch.backends.quantized.engine = "fbgemm"
    packed = linear([[0]] * 2, [2**-7] * 2, [float("nan"), 5.0])
    x = quantized([[0.25]], 0.5, 128)
    network = accelsim.extract(lambda x: Q.linear(x, packed, 0.1, 128), x, engine="fbgemm")
    network.save(tmp_path / "net")
    (output,) = accelsim.Network.load(tmp_path / "net").run(x.int_repr().numpy())
    assert output.quantized.tolist() == [[0, 178]]


def check_or_refuse(function: Any, x: torch.Tensor, engine: str, reason: str) -> Any:
    try:
        return check(function, x, engine).tolist()
    except ModelError as error:
        assert str(error).startswith("layer 'linear' (Linear): ")  # noqa: PT017
        assert reason in str(error)  # noqa: PT017
        return None


@pytest.mark.parametrize("factor", [255.9, 256.0, 1000.0, 7812.0])
def test_qnnpack_runs_factors_of_256_and_more(factor: float) -> None:
    torch.backends.quantized.engine = "qnnpack"
    packed = linear([[1], [-1]], [1.0, 1.0], [0.0, 300.0])
    x = quantized([[float(code)] for code in range(-3, 4)], 1.0, 128)
    codes = check(lambda x: Q.linear(x, packed, 1 / factor, 128), x, "qnnpack")
    assert codes[:, 0].tolist() == [0, 0, 0, 128, 255, 255, 255]


def test_an_integer_bias_that_takes_sums_out_of_int32_is_right_in_the_reference_and_refused_by_the_compiler() -> None:
    torch.backends.quantized.engine = "qnnpack"
    packed = linear([[1]], [2**-23], [1e30])
    layer = lambda x: Q.linear(x, packed, 0.01, 100)  # noqa: E731
    x = quantized([[-0.004], [0.0], [0.004]], 0.004, 128)
    assert check(layer, x, "qnnpack").tolist() == [[202], [202], [0]]  # 2**31 - 1 and one more is -2**31
    network = accelsim.extract(layer, x, engine="qnnpack")
    with pytest.raises(CompileError, match=r"linear: its sums and its integer bias leave int32"):
        on_machine(network, x, "float32_exact")


def test_what_an_engine_refuses_names_the_layer() -> None:
    torch.backends.quantized.engine = "onednn"
    codes = torch.quantize_per_tensor(torch.zeros(4, 6, 3, 3), 0.1, 0, torch.qint8)
    packed = Q.conv_transpose2d_prepack(codes, torch.zeros(6), [1, 1], [0, 0], [0, 0], [1, 1], 1)
    layer = lambda x: Q.conv_transpose2d(x, packed, 0.1, 128)  # noqa: E731
    with pytest.raises(ModelError, match=r"layer 'conv_transpose2d' \(Convolution\): .*wrong weights.*use"):
        accelsim.extract(layer, quantized(np.zeros((1, 4, 5, 5), np.float32), 0.1, 128), engine="onednn")


@pytest.mark.parametrize(("groups", "channels", "right"), [(3, 4, False), (5, 2, False), (8, 2, True), (3, 8, True)])
def test_groups_that_fbgemms_kernel_leaves_over_are_refused(groups: int, channels: int, right: bool) -> None:
    """FBGEMM's kernel writes past its output there: it is not run here, but for the numbers that it gets right."""
    width = groups * channels
    shape = ConvolutionShape(width, width, groups, (3, 3), (1, 1), (1, 1), (1, 1))
    for matrix in ("avx2", "avx512", "vnni"):
        assert leaves_groups(shape, matrix) is (not right and groups >= 64 // channels // max(channels, 4)) or (
            matrix == "avx2" and not right
        )
    if not right:
        return
    torch.backends.quantized.engine = "fbgemm"
    rng = np.random.default_rng(3)
    codes = weight(rng.integers(-9, 9, (width, channels, 3, 3)), [0.01], per_channel=False)
    packed = Q.conv2d_prepack(codes, None, [1, 1], [1, 1], [1, 1], groups)
    x = quantized(rng.uniform(-1, 1, (1, width, 4, 4)).astype(np.float32), 0.1, 128)
    check(lambda x: Q.conv2d(x, packed, 0.1, 100), x, "fbgemm", ("float32_exact",))


@pytest.mark.parametrize(
    ("dtype", "zero_point", "codes"),
    [(torch.quint8, 127, (0, 127, 255)), (torch.quint8, 128, (0, 128, 0)), (torch.qint8, -1, (127, -1, 127))],
)
def test_the_machine_adds_past_int32_as_the_vector_body_does(
    dtype: torch.dtype, zero_point: int, codes: tuple[int, ...]
) -> None:
    """Below, at and above 0: sums are no less than 2**31 steps apart, in 64 elements of the vector body."""
    x = quantized([float(value % 9 - 4) for value in range(64)], 1.0, 128 if dtype == torch.quint8 else 0, dtype)
    answer = check(lambda x: Q.add(x, x, 2.0**-30, zero_point), x, "fbgemm", ("float32_exact",))
    assert answer.tolist() == [codes[int(np.sign(value % 9 - 4)) + 1] for value in range(64)]


def scales(rng: np.random.Generator, count: int) -> tuple[float, np.ndarray, float]:
    """Of input, weights and output: anywhere, or so that codes come out between the clamps, or just leave int32."""
    source, weights, target = 2.0 ** rng.uniform(-140, 120), 2.0 ** rng.uniform(-140, 120, count), 0.0
    if rng.random() < 0.6:
        weights = 2.0 ** rng.uniform(-60, 60) * 2.0 ** rng.uniform(-3, 3, count)
        target = source * weights[0] * 2.0 ** rng.uniform(-34, 30)
    else:
        target = 2.0 ** rng.uniform(-140, 120)
    return float(source), weights, float(np.clip(target, 2.0**-149, 2.0**127))


def biases(rng: np.random.Generator, unit: np.ndarray) -> np.ndarray:
    """Zeros, the largest, infinite, NaN and subnormal ones, and those of up to 2**40 steps of the accumulator."""
    special = np.array([0.0, -0.0, 1e38, -1e38, np.inf, -np.inf, np.nan, 1e-44, -1e-44])
    steps = unit * 2.0 ** rng.uniform(0, 40, len(unit)) * rng.choice([-1, 1], len(unit))
    with np.errstate(over="ignore", under="ignore"):
        chosen = np.where(rng.random(len(unit)) < 0.5, rng.choice(special, len(unit)), steps)
        return chosen.astype(np.float32)


def random_layer(rng: np.random.Generator, engine: str) -> tuple[Any, torch.Tensor]:
    """A linear layer or a convolution, and an input for it."""
    outputs, inputs, per_channel, kernel = int(rng.integers(1, 12)), int(rng.integers(1, 9)), rng.random() < 0.5, 0
    count = outputs if per_channel else 1
    source, scale, target = scales(rng, count)
    bias = biases(rng, np.broadcast_to(source * scale, outputs)) if rng.random() < 0.8 else None
    given = None if bias is None else torch.from_numpy(bias)
    shape: tuple[int, ...] = (outputs, inputs)
    if rng.random() < 0.5:
        kernel = int(rng.integers(1, 4))
        shape = (*shape, kernel, kernel)
    # Small codes, so that no pair of products leaves int16; a third of the layers is pruned.
    codes = rng.integers(-60, 60, shape) * (rng.random((outputs, *[1] * (len(shape) - 1))) < 0.7)
    zeros = rng.integers(-9, 9, count) if engine == "fbgemm" else None
    packed_weight = weight(codes, scale.tolist(), per_channel, zeros)
    zero_point, out = int(rng.integers(256)), int(rng.integers(256))
    low = max(0, zero_point - 40)
    raw = rng.integers(low, min(256, low + 80), (3, inputs) if not kernel else (1, inputs, 4, 4))
    x = torch._make_per_tensor_quantized_tensor(torch.from_numpy(raw.astype(np.uint8)), source, zero_point)
    relu = "_relu" if rng.random() < 0.5 else ""
    if not kernel:
        packed = Q.linear_prepack(packed_weight, given)
        return lambda x: getattr(Q, f"linear{relu}")(x, packed, target, out), x
    stride, pad = int(rng.integers(1, 3)), int(rng.integers(0, 2)) if kernel > 1 else 0
    packed = Q.conv2d_prepack(packed_weight, given, [stride] * 2, [pad] * 2, [1, 1], 1)
    return lambda x: getattr(Q, f"conv2d{relu}")(x, packed, target, out), x


def compare(engine: str, seeds: range) -> int:
    """How many of some random layers were equal to PyTorch; those that are not are refused, by PyTorch or by name."""
    torch.backends.quantized.engine = engine
    equal = 0
    for seed in seeds:
        rng = np.random.default_rng([18, seed])
        layer, x = random_layer(rng, engine)
        try:
            layer(x)
        except RuntimeError:  # a factor that QNNPACK takes for none
            continue
        try:
            check(layer, x, engine, (ARITHMETICS[seed % 3],))
        except ModelError as error:
            assert str(error).startswith("layer '"), seed  # noqa: PT017
            continue
        equal += 1
    return equal


@pytest.mark.parametrize("engine", ENGINES)
def test_layers_over_the_whole_range_of_scales_and_biases(engine: str) -> None:
    assert compare(engine, range(30)) >= (8 if engine == "qnnpack" else 15)


@pytest.mark.full
@pytest.mark.parametrize("start", range(0, 800, 100))
@pytest.mark.parametrize("engine", ENGINES)
def test_many_layers_over_the_whole_range_of_scales_and_biases(engine: str, start: int) -> None:
    assert compare(engine, range(1000 + start, 1100 + start)) >= (30 if engine == "qnnpack" else 50)
