"""The digits network: real data, good accuracy for every engine, and training that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch

from examples import digits

ROOT = Path(__file__).parents[2]


def test_the_test_set_is_what_training_does_not_see() -> None:
    images, labels = digits.test_set()
    seen, seen_labels = digits.training_set()
    assert images.shape == (360, 1, 8, 8)
    assert seen.shape == (1437, 1, 8, 8)
    assert len(labels) == 360
    assert len(seen_labels) == 1437
    together = {image.numpy().tobytes() for image in torch.cat([images, seen])}
    assert len(together) == 1797  # no image stands in both
    assert sorted(labels.unique().tolist()) == list(range(10))
    assert float(images.min()) == 0.0
    assert float(images.max()) == 1.0


def test_float_and_quantised_networks_are_good_for_every_engine() -> None:
    images, labels = digits.test_set()
    with torch.no_grad():
        assert digits.accuracy(digits.trained()(images), labels) > 0.95
        for engine in digits.ENGINES:
            model, example = digits.quantized(engine)
            assert torch.backends.quantized.engine == engine
            assert example.shape == (1, 1, 8, 8)
            assert digits.accuracy(model(images), labels) > 0.95, engine


def test_without_an_engine_it_is_pytorchs() -> None:
    torch.backends.quantized.engine = "qnnpack"
    model, _ = digits.quantized()
    assert torch.backends.quantized.engine == "qnnpack"
    # qnnpack's default weights are per tensor, the other engines' per output channel.
    assert model.conv1.weight().qscheme() == torch.per_tensor_affine
    digits.quantized("fbgemm")
    assert digits.quantized()[0].conv1.weight().qscheme() == torch.per_channel_affine


def test_activations_of_engines_that_may_saturate_have_seven_bits() -> None:
    for engine, largest in (("fbgemm", 127), ("x86", 127), ("onednn", 127), ("qnnpack", 255)):
        model, _ = digits.quantized(engine)
        x = model.quantize(digits.test_set()[0])
        assert int(x.int_repr().max()) <= largest, engine


def test_it_has_the_layers_that_the_demonstration_is_about() -> None:
    import accelsim
    from accelsim.network import Add, AveragePool, Convolution, Linear, MaxPool

    network = accelsim.extract(*digits.quantized("fbgemm"))
    nodes = {node.name: node for node in network.nodes}
    convolutions = [node for node in network.nodes if isinstance(node, Convolution)]
    assert any(node.padding == ((1, 1), (1, 1)) for node in convolutions)
    assert any(node.padding == ((0, 0), (0, 0)) for node in convolutions)
    assert any(node.stride == (2, 2) for node in convolutions)
    assert any(node.relu for node in convolutions)
    for kind in (Add, AveragePool, MaxPool):
        assert any(isinstance(node, kind) for node in network.nodes)
    assert isinstance(nodes["fc1"], Linear)
    assert isinstance(nodes["fc2"], Linear)
    assert nodes["fc2"].inputs == ("fc1",)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results in a directory of the test's, and a training that takes no time."""
    monkeypatch.setattr(digits, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(digits, "_EPOCHS", 1)
    return tmp_path / "results"


def test_weights_are_kept_and_trained_once(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = digits.trained()
    (path,) = elsewhere.iterdir()
    with safetensors.safe_open(path, "numpy") as file:
        assert "fc1.weight" in file.keys()  # noqa: SIM118 (no mapping)

    def must_not_train() -> Any:
        raise AssertionError("trained again")

    monkeypatch.setattr(digits, "_train", must_not_train)
    again = digits.trained()
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_training_is_the_same_each_time_and_leaves_the_random_state(elsewhere: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = digits._train().state_dict()
    assert torch.equal(torch.rand(3), expected)
    second = digits._train().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("damage", [b"", b"junk" * 99, None], ids=["empty", "junk", "half"])
def test_a_damaged_file_is_trained_anew(elsewhere: Path, damage: bytes | None) -> None:
    digits.trained()
    (path,) = elsewhere.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    digits.trained()
    assert path.read_bytes() == whole


def test_a_process_killed_while_writing_leaves_no_half_file(tmp_path: Path) -> None:
    script = f"""
import os, pathlib, signal
from examples import digits
digits.RESULTS, digits._EPOCHS = pathlib.Path({str(tmp_path)!r}), 1
write = pathlib.Path.write_bytes
def half(path, data):
    write(path, data[:len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.write_bytes = half
digits.trained()
"""
    process = subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=120, check=False)
    assert process.returncode == -9
    assert not list(tmp_path.glob("*.safetensors"))
    assert len(list(tmp_path.iterdir())) == 1  # the part, which nobody reads


def test_where_nothing_can_be_written_it_still_trains(elsewhere: Path) -> None:
    elsewhere.write_text("a file where the directory should be")
    assert digits.trained().fc2.out_features == 10


def test_quantising_says_nothing_on_stdout() -> None:
    script = "from examples import digits; digits.quantized('qnnpack')"
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout == ""
    assert json.dumps(ran.stderr) == '""'
