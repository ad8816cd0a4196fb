"""Quantised torch.export graphs (PT2E): what they are lowered to, and how far their own run is from that."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from exported_graphs import GRAPHS, IN, IN_FLOAT, OUT, Layer, dequantize, exported, image, quantize, rounded

import accelsim
from accelsim.errors import CompileError, ModelError
from accelsim.frontend import extract, record_eager_values, record_values
from accelsim.network import Convolution, Linear, Network, ResidualLayer
from accelsim.network.checks import check

pytestmark = pytest.mark.filterwarnings("ignore")

HERE = Path(__file__).parent
TEACHING = accelsim.Accelerator.from_yaml(HERE.parents[1] / "configs" / "teaching_4x4.yaml")
Y = (2, 6, 9, 7)


def layers_in_float(network: Network) -> set[str]:
    layers = [node.layer if isinstance(node, ResidualLayer) else node for node in network.nodes]
    return {node.name for node in layers if isinstance(node, Convolution | Linear) and node.float_output}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_is_what_it_is_lowered_to(name: str, tmp_path: Path) -> None:
    shape, make = GRAPHS[name]
    model = exported(make(), shape)
    x = torch.cat([image(seed, shape) for seed in range(3)])
    network = extract(model, x[: shape[0]])
    check(network)
    assert network.engine == "pt2e"
    assert layers_in_float(network) == IN_FLOAT.get(name, set())
    ours, theirs = network.trace(x.numpy()), record_values(model, x, network)
    assert set(network.outputs) <= set(theirs)
    for value, expected in theirs.items():
        assert np.array_equal(ours[value], expected), (value, np.count_nonzero(ours[value] != expected))
    network.save(tmp_path / "network")
    again = Network.load(tmp_path / "network")
    assert np.array_equal(again.run(x.numpy())[0].quantized, network.run(x.numpy())[0].quantized)


#: Layers that differ from the graph's own run in ties: their zero points are odd, and the kernel adds them first.
FUSED = (
    "convolution",
    "convolution with relu",
    "relu6",
    "grouped",
    "depthwise",
    "linear",
    "residual of a linear layer",
)


@pytest.mark.parametrize("name", [*FUSED, *(name for name in IN_FLOAT if name != "two layers" and "again" not in name)])
def test_the_graphs_own_run_differs_in_ties_of_layers_that_quantise(name: str) -> None:
    # The scales are powers of two, so that sums in float are exact and the order of roundings is all there is.
    shape, make = GRAPHS[name]
    model = exported(make(), shape)
    x = image(9, shape)
    network = extract(model, x)
    lowered, eager = record_values(model, x, network), record_eager_values(model, x, network)
    (output,) = network.outputs
    change = np.abs(lowered[output].astype(int) - eager[output])
    if name in FUSED:
        assert 0.03 < np.mean(change > 0) < 0.5
        assert change.max() == 1
    else:
        assert not change.any()


def worker(environment: dict[str, str], *arguments: str, timeout: int = 300) -> Any:
    run = subprocess.run(
        [sys.executable, str(HERE / "exported_worker.py"), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment | {"OMP_NUM_THREADS": "1"},
        timeout=timeout,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("wanted", "isa", "needs"),
    [
        ("avx2", "AVX2", "avx2"),
        pytest.param("avx512", "AVX512_CORE", "avx512_bw", marks=pytest.mark.full),
        pytest.param("vnni", "AVX512_CORE_VNNI", "avx512_vnni", marks=pytest.mark.full),
    ],
)
def test_graphs_equal_the_kernels_under_every_kernel_set(wanted: str, isa: str, needs: str) -> None:
    if not torch.cpu.get_capabilities().get(needs, False):
        pytest.skip(f"this host has no {needs}")
    answer = worker({"ONEDNN_MAX_CPU_ISA": isa})
    assert answer["kernels"]["matrix"] == wanted
    assert all(graph["kernels"] == 0 for graph in answer["graphs"].values()), answer
    assert sum(graph["outputs"] for graph in answer["graphs"].values()) > 100_000


@pytest.mark.full
def test_inductor_computes_what_the_graphs_are_said_to_be_lowered_to(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("Inductor needs a C++ compiler, and this host has no g++")
    answer = worker({"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}, "--inductor", timeout=1800)
    assert {name: graph["inductor"] for name, graph in answer["graphs"].items()} == dict.fromkeys(GRAPHS, 0)


@pytest.mark.parametrize(
    "name", ["two layers", "clamp on both sides", "pooled before it is quantised", "sum with relu"]
)
def test_the_machine_runs_a_graph_and_the_report_says_how_far_the_graphs_own_run_is(name: str) -> None:
    shape, make = GRAPHS[name]
    verification = accelsim.verify(exported(make(), shape), image(4, shape), TEACHING, effort=0)
    assert verification.engine == "pt2e"
    assert verification.compared > 100
    assert verification.mismatches == verification.explained == 0
    note = next(note for note in verification.notes if "sum in float" in note)
    assert ("gives 0 of" in note) == (name in ("pooled before it is quantised", "sum with relu"))


def test_averages_differ_from_the_graphs_in_halves_alone() -> None:
    graphs = {
        "window": lambda x: F.avg_pool2d(x, 2, 2, 1, count_include_pad=False),
        "adaptive": lambda x: F.adaptive_avg_pool2d(x, 2),
        "mean": lambda x: torch.mean(x, [2, 3]),
    }
    scale, zero = 0.0734, 31
    codes = np.random.default_rng(8).integers(0, 256, (8, 40, 4, 4))
    x = torch.from_numpy(((codes - zero) * np.float32(scale)).astype(np.float32))
    for name, average in graphs.items():
        make = lambda x, average=average: dequantize(  # noqa: E731
            quantize(average(rounded(x, (scale, zero))), (scale, zero)), (scale, zero)
        )
        network = extract(make, x)
        ours, eager = network.trace(x.numpy())[network.outputs[0]], record_eager_values(make, x, network)
        different = ours != eager[network.outputs[0]]
        verification = accelsim.verify(make, x, TEACHING, effort=0)
        assert verification.mismatches == 0, name
        assert verification.layers[0].explained == np.count_nonzero(different), name
        if name == "mean":
            halves = (codes - zero).sum((2, 3)) % 16 == 8
            assert not np.any(different & ~halves)
            assert different.any()


def test_a_layer_that_is_not_lowered_is_told_of() -> None:
    shape, make = GRAPHS["layer of moved numbers"]
    network = extract(exported(make(), shape), image(1, shape))
    assert any("its lowering leaves it in float" in note for note in network.notes)
    shape, make = GRAPHS["linear over three axes"]
    assert not extract(exported(make(), shape), image(1, shape)).notes


def test_a_residual_sum_keeps_its_arithmetic_beside_engines() -> None:
    shape, make = GRAPHS["residual with relu"]
    x = image(1, shape)
    network = extract(exported(make(), shape), x)
    values = network.trace(x.numpy())
    other = replace(network, engine="fbgemm")
    assert np.array_equal(other.apply("layer0", values), values["layer0"])
    assert not np.array_equal(other.apply("layer1", values), values["layer1"])


@pytest.mark.parametrize("name", [name for name in GRAPHS if "residual" in name])
@pytest.mark.parametrize("lanes", [1, 16])
def test_a_residual_sum_runs_on_a_machine(name: str, lanes: int) -> None:
    shape, make = GRAPHS[name]
    x = image(1, shape)
    network = extract(exported(make(), shape), x)
    assert any(isinstance(node, ResidualLayer) for node in network.nodes)
    machine = TEACHING.replace(**{"vector_unit.lanes": lanes, "buffers.activation.bytes": 6000})
    result = accelsim.simulate(accelsim.compile(network, machine), x.numpy())
    expected = network.trace(x.numpy())
    for name, value in result.values.items():
        assert np.array_equal(value.quantized, expected[name]), name
    for output in result.outputs:
        assert np.array_equal(output.quantized, expected[output.name])


def test_a_residual_sum_of_another_engine_is_refused() -> None:
    shape, make = GRAPHS["residual with relu"]
    network = replace(extract(exported(make(), shape), image(1, shape)), engine="fbgemm")
    with pytest.raises(CompileError, match=r"layer0.*a residual that is added to a layer's sums"):
        accelsim.compile(network, TEACHING)


def _ends_in_float(x: torch.Tensor) -> torch.Tensor:
    return Layer(1, (20, 33))(rounded(x, IN))


def _one_scale(x: torch.Tensor) -> torch.Tensor:
    return rounded(Layer(1, (8, 6, 3, 3), per_channel=False)(rounded(x, IN)))


def _signed(x: torch.Tensor) -> torch.Tensor:
    decomposed, grid = torch.ops.quantized_decomposed, (0.25, 3, -128, 127, torch.int8)
    x = decomposed.dequantize_per_tensor(decomposed.quantize_per_tensor(x, *grid), *grid)
    return rounded(Layer(1, (8, 6, 3, 3))(x))


def _narrow(x: torch.Tensor) -> torch.Tensor:
    return torch.ops.quantized_decomposed.quantize_per_tensor(x, 0.25, 3, 0, 127, torch.uint8)


def _integers_in(x: torch.Tensor) -> torch.Tensor:
    return rounded(dequantize(x.to(torch.uint8), IN))


def _uneven_pool(x: torch.Tensor) -> torch.Tensor:
    return rounded(F.avg_pool2d(rounded(x, IN), 2), OUT)


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (_one_scale, Y, "one scale.*per output channel"),
        (_signed, Y, "int8 activations.*torch.uint8"),
        (_narrow, Y, r"reduce_range=False"),
        (_integers_in, Y, "nothing in the graph has quantised"),
        (
            lambda x: rounded(torch.cumsum(Layer(1, (8, 6, 3, 3))(rounded(x, IN)), 1)),
            Y,
            "cumsum takes a sum or a parameter in float",
        ),
        (lambda x: rounded(F.conv_transpose2d(rounded(x, IN), torch.ones(6, 2, 2, 2))), Y, "convolution.*in float"),
        (lambda x: rounded(rounded(x, IN) * rounded(x + 1, OUT)), Y, "in float"),
    ],
)
def test_what_has_no_integers_is_refused_with_a_reason(model: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        extract(model, image(1, shape))


def _gated(x: torch.Tensor) -> torch.Tensor:
    """A depthwise layer, squeezed and excited."""
    y = F.hardswish(Layer(1, (6, 1, 3, 3), groups=6)(rounded(x, IN)))
    squeezed = Layer(2, (6, 6, 1, 1))(rounded(y.mean((2, 3), keepdim=True)))
    return rounded(y * torch.sigmoid(squeezed))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (_ends_in_float, (5, 33)),
        (lambda x: rounded(F.hardswish(Layer(1, (8, 6, 3, 3))(rounded(x, IN)))), Y),
        (lambda x: rounded(F.gelu(Layer(1, (8, 6, 3, 3))(rounded(x, IN)))), Y),
        (lambda x: rounded(F.silu(Layer(1, (8, 33))(rounded(x, IN)))), (5, 33)),
        (lambda x: torch.softmax(Layer(1, (8, 33))(rounded(x, IN)), -1), (5, 33)),
        (lambda x: F.relu(Layer(1, (8, 6, 3, 3))(rounded(x, IN))).flatten(1), Y),
        (_gated, Y),
        (_uneven_pool, Y),
    ],
    ids=["ends in float", "hardswish", "gelu", "silu", "softmax", "relu", "gated", "uneven pool"],
)
@pytest.mark.parametrize("size", ["large", "small"])
def test_what_follows_a_sum_in_float_is_pytorchs(model: Any, shape: tuple[int, ...], size: str) -> None:
    small = {"buffers.activation.bytes": 1500, "mac_array.rows": 3, "mac_array.columns": 7} if size == "small" else {}
    machine = accelsim.Accelerator.from_yaml("edge_16x16").replace(**small)
    verification = accelsim.verify(model, image(1, shape), machine, effort=0)
    assert verification.mismatches == 0, verification
    assert verification.layers


def test_a_network_shares_no_memory_with_the_graph() -> None:
    shape, make = GRAPHS["linear"]
    graph = make()
    network = extract(graph, image(1, shape))
    (layer,) = [node for node in network.nodes if isinstance(node, Linear)]
    before = layer.weights.codes.copy()
    graph.layer0.weight += 1
    assert np.array_equal(layer.weights.codes, before)


def test_a_graph_has_no_engine() -> None:
    shape, make = GRAPHS["linear"]
    model, x = exported(make(), shape), image(1, shape)
    with pytest.raises(ModelError, match=r"'fbgemm': the model is a torch.export graph, whose arithmetic is 'pt2e'"):
        extract(model, x, engine="fbgemm")
    with pytest.raises(ModelError, match=r"'pt2e': the model is no torch.export graph"):
        extract(lambda x: torch.quantize_per_tensor(x, 0.25, 3, torch.quint8), x, engine="pt2e")
    assert extract(model, x, engine="pt2e").engine == "pt2e"


def test_layers_carry_the_names_of_their_biases() -> None:
    shape, make = GRAPHS["two layers"]
    network = extract(exported(make(), shape), image(1, shape))
    layers = [node for node in network.nodes if isinstance(node, Convolution | Linear)]
    assert [node.name for node in layers] == [node.weights.key for node in layers] == ["layer0", "layer1"]


def test_a_model_that_x86_inductor_quantizer_quantised_is_what_it_is_lowered_to() -> None:
    pt2e = importlib.import_module("torchao.quantization.pt2e.quantize_pt2e")
    inductor = importlib.import_module("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.normalised = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8)
            self.second, self.third = torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.Conv2d(8, 8, 1)
            self.dense, self.last = torch.nn.Linear(128, 16), torch.nn.Linear(16, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.normalised(self.first(x)))
            x = F.max_pool2d(torch.relu(self.second(x) + x), 2)
            x = torch.relu(self.dense(torch.flatten(F.relu6(self.third(x)), 1)))
            return self.last(x)

    torch.manual_seed(0)
    # Codes that use less than a third of their range, and zero points of 0, keep pairs of products within int16, where
    # kernels without VNNI saturate.
    x = torch.rand(16, 3, 8, 8)
    graph = torch.export.export(Net().eval(), (x[:2],)).module()
    quantizer = inductor.X86InductorQuantizer()
    quantizer.set_global(inductor.get_default_x86_inductor_quantization_config())
    prepared = pt2e.prepare_pt2e(graph, quantizer)
    for part in x.split(2):
        prepared(4 * part)
    converted = pt2e.convert_pt2e(prepared)
    model = lambda x: quantize(converted(x), (0.01, 100))  # noqa: E731
    network = extract(model, x[:2])
    ours, theirs = network.trace(x.numpy()), record_values(model, x, network)
    assert set(network.outputs) <= set(theirs)
    assert len(theirs) == 6  # the second convolution's sum is quantised after the pool
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
