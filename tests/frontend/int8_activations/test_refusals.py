"""What is not known of XNNPACK is refused by name with what to do; the doors that lead to its arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import int8_graphs as graphs
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import xnnpack_specs
from int8_graphs import dequantize, quantize, rounded
from typer.testing import CliRunner
from xnnpack_specs import Spec, map_of

import accelsim
from accelsim.arithmetic.engines import KernelSet
from accelsim.cli.application import application
from accelsim.errors import ModelError

A, B = map_of(0.05, 3), map_of(0.11, -20)
IMAGE = (1, 4, 6, 6)
Tensor = torch.Tensor


class Graph(torch.nn.Module):
    """A function between the quantisation of an image and that of what it gives."""

    def __init__(self, body: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return rounded(self.body(rounded(x, A)), B)


def extract(module: torch.nn.Module, **arguments: str) -> accelsim.Network:
    x = torch.linspace(-3, 3, 144).reshape(IMAGE)
    return accelsim.extract(graphs.exported(module, (x,)).module(), x, **arguments)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda x: F.avg_pool2d(x, 2), "avg_pool2d.*adaptive_avg_pool2d"),
        (lambda x: F.adaptive_avg_pool2d(x, 2), "adaptive_avg_pool2d.*one output pixel"),
        (lambda x: x.mean((2, 3)), "mean.*keepdim=True"),
        (lambda x: torch.relu(x * x), "relu.*in float"),
        (lambda x: torch.relu(x - x), "relu.*in float"),
        (lambda x: F.hardtanh(x + x), "hardtanh.*in float"),
        (lambda x: torch.relu(torch.sigmoid(x)), "relu.*in float"),
        (F.elu, "elu"),
        (lambda x: x + 3, "add.*two quantised values"),
        (lambda x: torch.add(x, rounded(torch.relu(x), A), alpha=2), "add.*two quantised values"),
        (lambda x: F.max_pool2d(x, 2), "max_pool2d.* does not load; .*share their observer"),
        (lambda x: x.permute(0, 2, 3, 1), "does not load"),
        (lambda x: torch.cat([x, rounded(x, B)], 1), "cat of tensors of 2 affine maps.*share one observer"),
        (lambda x: (x + x).flatten(1), "a movement stands between aten.add.* quantise first"),
        (lambda x: (lambda y: rounded(torch.relu(y), A) + rounded(y, A))(x + x), "used more than once"),
        (lambda x: (lambda y: rounded(y, A) + rounded(y, B))(torch.relu(x)), "relu.*used more than once"),
        (lambda x: dequantize(quantize(x, A).to(torch.int8), A) + torch.ones(IMAGE), "add.*two quantised values"),
    ],
)
def test_an_operator_that_is_not_known_is_refused_by_name(body: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ModelError, match=f"(?s){message}"):
        extract(Graph(body))


def test_a_value_next_to_the_middle_between_two_codes_is_named_in_the_notes() -> None:
    """sigmoid(0) is a half, which scale 1/3 brings half way between the codes 1 and 2 up to the roundings."""

    class Half(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return rounded(torch.sigmoid(rounded(x, A)), map_of(1 / 3, 0))

    class Quarter(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return rounded(torch.sigmoid(rounded(x, A)), map_of(1 / 4, 0))

    (note,) = extract(Half()).notes
    assert "sigmoid of the codes 3 lies so near to the middle" in note
    assert extract(Quarter()).notes == ()


def _conv(**arrays: np.ndarray) -> Spec:
    weight = {"weight": np.full((3, 4, 1, 1), 5, np.int8), "scale": np.full(3, 0.01)}
    return Spec("conv", ((IMAGE, A),), B, {"per_channel": True}, {**weight, **arrays})


def test_weights_have_no_zero_points() -> None:
    operator = graphs.Operator(_conv())
    operator.zeros += 1
    with pytest.raises(ModelError, match="XNNPACK takes no weight zero points"):
        extract(operator)


def test_a_factor_of_256_is_refused_with_the_layers_name() -> None:
    with pytest.raises(ModelError, match=r"layer '.*' \(Convolution\): its factor .* is 2558.*below 256"):
        extract(
            graphs.Operator(Spec("conv", ((IMAGE, A),), map_of(1.9545e-7, 0), {"per_channel": True}, _conv().arrays))
        )


def test_the_engine_can_be_named_and_follows_the_activations_if_it_is_not() -> None:
    assert extract(graphs.Operator(_conv())).engine == extract(graphs.Operator(_conv()), engine="xnnpack").engine
    with pytest.raises(ModelError, match=r"'fbgemm': the model is a torch.export graph, whose arithmetic is 'pt2e' or"):
        extract(graphs.Operator(_conv()), engine="fbgemm")
    with pytest.raises(ModelError, match="int8 activations is lowered to no kernel"):
        extract(graphs.Operator(_conv()), engine="pt2e")

    def unsigned(x: Tensor) -> Tensor:
        decomposed = torch.ops.quantized_decomposed
        codes = decomposed.quantize_per_tensor(x, 0.05, 100, 0, 255, torch.uint8)
        return decomposed.dequantize_per_tensor(codes, 0.05, 100, 0, 255, torch.uint8)

    class Unsigned(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return unsigned(torch.relu(unsigned(x)))

    with pytest.raises(ModelError, match="XNNPACK's activations are int8, and this one is uint8"):
        extract(Unsigned(), engine="xnnpack")


def test_lanes_do_not_matter() -> None:
    for lanes in ("avx2", "default", "host"):
        assert extract(graphs.Operator(_conv()), lanes=lanes).kernels == KernelSet("uniform", "vnni")


def test_a_saved_network_computes_the_same(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    chosen = {spec.operator: spec for spec in xnnpack_specs.specs(random)}
    for operator in ("mean", "sub", "conv"):
        spec = chosen[operator]
        inputs = spec.random_inputs(random)
        x = graphs.reals(spec, inputs)
        network = accelsim.extract(graphs.exported(graphs.Operator(spec), x).module(), x)
        network.save(tmp_path / "net.accelsim")
        loaded = accelsim.Network.load(tmp_path / "net.accelsim")
        assert loaded.engine == "xnnpack"
        assert np.array_equal(loaded.run(tuple(inputs))[0].quantized, network.run(tuple(inputs))[0].quantized)


MODULE = """
import sys
sys.path[:0] = {paths!r}
import numpy as np, torch
import int8_graphs as graphs
from xnnpack_specs import Spec, map_of

def model():
    arrays = {{"weight": np.full((3, 4, 1, 1), 5, np.int8), "scale": np.full(3, 0.01)}}
    spec = Spec("conv", (((1, 4, 6, 6), map_of(0.05, 3)),), map_of(0.11, -20), {{"per_channel": True}}, arrays)
    x = torch.linspace(-3, 3, 144).reshape(1, 4, 6, 6)
    return graphs.exported(graphs.Operator(spec), (x,)).module(), x
"""


@pytest.mark.parametrize("engine", [[], ["--engine", "xnnpack"]])
def test_the_command_line_runs_a_graph_and_verify_says_who_is_the_witness(
    engine: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(Path(graphs.__file__).parent), str(Path(xnnpack_specs.__file__).parent)]
    name = f"int8_model_{len(engine)}"
    (tmp_path / f"{name}.py").write_text(MODULE.format(paths=paths))
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(application, ["run", "teaching_4x4", f"{name}:model", *engine])
    assert ran.exit_code == 0, ran.output
    refused = CliRunner().invoke(application, ["verify", f"{name}:model", *engine])
    assert refused.exit_code == 1
    assert "outputs of ExecuTorch's runtime" in " ".join(refused.stderr.split())
