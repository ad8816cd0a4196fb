"""Every operator under every engine: the network, and the machine, equal PyTorch in all bits of all values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from equality import ENGINES, assert_equal_to_pytorch, convolution, engine_set, linear, plain, quantized
from one_of_each import CASES, NOT_COMPILED

import accelsim
from accelsim.errors import CompileError, ModelError

TEACHING = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "teaching_4x4.yaml")
RUNS = [(name, engine) for name, case in CASES.items() for engine in ENGINES if engine not in case.refused]
REFUSALS = [(name, engine) for name, case in CASES.items() for engine in case.refused]


@pytest.mark.parametrize(("name", "engine"), RUNS)
def test_network_and_machine_equal_pytorch(name: str, engine: str) -> None:
    case = CASES[name]
    x = case.x if len(case.x) > 1 else case.x[0]
    with engine_set(engine):
        model = case.model()
    network = assert_equal_to_pytorch(model, x, engine)
    expected = network.trace(plain(x))
    program = accelsim.compile(network, TEACHING, effort=int(engine == "fbgemm"))
    result = accelsim.simulate(program, plain(x))
    for output in result.outputs:
        assert np.array_equal(output.quantized, expected[output.name]), output.name
    for value, output in result.values.items():
        assert np.array_equal(output.quantized, expected[value]), value


@pytest.mark.parametrize(("name", "engine"), REFUSALS)
def test_what_pytorch_gets_wrong_or_hides_is_refused(name: str, engine: str) -> None:
    case = CASES[name]
    with engine_set(engine):
        model = case.model()
    with pytest.raises(ModelError, match=r"; .*(engine|use)|QNNPACK backend doesn't support"):
        accelsim.extract(model, case.x, engine=engine)


@pytest.mark.parametrize(
    ("name", "engine"),
    [(name, engine) for name, (case, _) in NOT_COMPILED.items() for engine in ENGINES if engine not in case.refused],
)
def test_what_the_machine_has_no_instruction_for_is_refused_when_compiled(name: str, engine: str) -> None:
    case, says = NOT_COMPILED[name]
    network = assert_equal_to_pytorch(case.model(), case.x[0], engine)
    with pytest.raises(CompileError, match=f"the machine has no instruction for {says}.*; .*leave this operator out"):
        accelsim.compile(network, TEACHING)


@pytest.mark.parametrize("columns", [1, 2, 6])
def test_fbgemms_direct_transposed_convolution_is_refused(columns: int) -> None:
    x = quantized(np.zeros((1, 8, 4, 4), np.uint8))
    with engine_set("fbgemm"):
        model = convolution(1, 8, 16, (2, columns), stride=2, transposed=True)
    with pytest.raises(ModelError, match=r"two rows.*; use a padding"):
        accelsim.extract(model, x, engine="fbgemm")
    with engine_set("qnnpack"):
        model = convolution(1, 8, 16, (2, columns), stride=2, transposed=True)
    assert_equal_to_pytorch(model, x, "qnnpack")


LAYERS = {
    "convolution": (lambda: convolution(1, 4, 8, (3, 3)), (1, 4, 5, 5)),
    "linear": (lambda: linear(2, 12, 5), (2, 12)),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("packed", "asked"),
    [("fbgemm", "qnnpack"), ("qnnpack", "fbgemm"), ("onednn", "fbgemm"), ("fbgemm", "onednn"), ("qnnpack", "x86")],
)
def test_weights_packed_for_another_engine_are_refused(layer: str, packed: str, asked: str) -> None:
    make, shape = LAYERS[layer]
    with engine_set(packed):
        model = make()
    x = quantized(np.full(shape, 9, np.uint8))
    with pytest.raises(
        ModelError, match=f"packed for {packed}'s kernels, but the engine {asked} .*do that again after"
    ):
        accelsim.extract(model, x, engine=asked)
    # What it was packed for takes it.
    assert accelsim.extract(model, x, engine=packed).outputs
