"""Models whose network was once silently wrong: now it gives PyTorch's codes, or the model is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from checking import MACHINE
from known import DATA, FOUND, IN_PLACE, LIMITS, NO_FUNCTIONS, Known, q
from models import engine_set, on_grid

import accelsim
from accelsim.errors import AccelsimError
from accelsim.frontend import host_kernels


def _cases(*groups: tuple[Known, ...]) -> list[Any]:
    return [
        pytest.param(known, engine, id=f"{known.name}, {engine}")
        for group in groups
        for known in group
        for engine in known.engines
    ]


@pytest.mark.parametrize(("known", "engine"), _cases(IN_PLACE, LIMITS, DATA, FOUND))
def test_a_network_gives_pytorchs_codes(known: Known, engine: str) -> None:
    expected, x = np.array(known.codes), known.x()
    if known.by_processor and engine == "onednn" and host_kernels(engine).matrix != "avx2":
        with engine_set(engine), pytest.raises(AccelsimError, match="not known"):
            accelsim.extract(known.make(), (known.example or known.x)(), engine=engine)
        return
    with engine_set(engine):
        model = known.make()
        theirs = model(known.x())
        assert theirs.int_repr().tolist() == expected.tolist(), "PyTorch gives other codes than are known"
        scale, zero_point = theirs.q_scale(), theirs.q_zero_point()
    example = (known.example or known.x)()
    before = (known.example or known.x)()
    try:
        network = accelsim.extract(model, example, engine=engine)
    except AccelsimError:
        assert known.refused
        return
    assert example.shape == before.shape
    assert example.stride() == before.stride()
    assert torch.equal(example, before), "extract changed the example input"
    for (output,) in (network.run(x), accelsim.simulate(accelsim.compile(network, MACHINE, effort=0), x).outputs):
        assert (output.scale, output.zero_point) == (scale, zero_point)
        assert output.quantized.tolist() == expected.tolist()


@pytest.mark.parametrize("name", NO_FUNCTIONS)
def test_a_model_that_is_no_function_of_its_input_is_refused(name: str) -> None:
    with pytest.raises(AccelsimError):
        accelsim.extract(NO_FUNCTIONS[name](), q([[step / 10 for step in range(32)]]), engine="fbgemm")


def test_two_inputs_may_be_one_tensor_when_they_are_recorded() -> None:
    x, y = q([[1.0, 2.0]]), q([[3.0, 4.0]])
    network = accelsim.extract(lambda a, b: (a, torch.relu(b)), (x, x), engine="fbgemm")
    first, second = network.run((x, y))
    assert first.quantized.tolist() == [[138, 148]]
    assert second.quantized.tolist() == [[158, 168]]


def test_a_torch_export_graph_quantises_its_input_in_two_roundings() -> None:
    import torch.ao.quantization.fx._decomposed

    decomposed = torch.ops.quantized_decomposed
    grid = (0.030462145805358887, 120, 0, 255, torch.uint8)
    x = torch.tensor([-0.4721631705760956])
    assert decomposed.quantize_per_tensor(x, *grid).tolist() == [105]
    network = accelsim.extract(lambda x: decomposed.quantize_per_tensor(x, *grid), x)
    for (output,) in (network.run(x), accelsim.simulate(accelsim.compile(network, MACHINE, effort=0), x).outputs):
        assert output.quantized.tolist() == [105]


def test_a_mean_of_all_elements_of_a_torch_export_graph_is_one_number() -> None:
    x = torch.tensor([[1.0, -2.0, 0.5]])

    def model(x: torch.Tensor) -> torch.Tensor:
        return on_grid(on_grid(x, 0.5, 3) - on_grid(x, 0.5, 3).mean(), 0.5, 3)

    assert accelsim.verify(model, x, MACHINE).mismatches == 0
    (output,) = accelsim.extract(model, x).run(x)
    assert np.array_equal(output.dequantize(), model(x).numpy())
