"""`certify`, `compare` and `extract --format` on the command line, on a network that was saved."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.certificate import prove
from accelsim.arithmetic.engines import KernelSet
from accelsim.network import Linear, Network, Value, Weights

from .calling import EDGE, call


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """m = 1/2 without a bias, whose odd sums are ties, and m = 0.4 with one."""
    weights = Weights(
        np.array([[1], [2]], np.int8),
        np.array([2.0**-7, 0.4 * 2.0**-6]),
        np.zeros(2, np.int32),
        True,
        np.array([0.0, 0.1], np.float32),
        "fc",
    )
    values = {
        "x": Value("x", (4, 1), Affine(2.0**-7, 0, "uint8"), (0, 1)),
        "fc": Value("fc", (4, 2), Affine(2.0**-13, 5, "uint8"), (0, 1)),
    }
    network = Network(
        "fbgemm", KernelSet("avx2", "avx2"), values, (Linear("fc", ("x",), weights),), ("x",), ("fc",), "small"
    )
    network.save(tmp_path / "net.accelsim")
    np.save(tmp_path / "x.npy", np.array([[0], [1], [2], [3]], np.uint8))
    np.save(tmp_path / "y.npy", np.array([1, 1, 1, 0]))
    return tmp_path


def test_certify_says_which_channels_are_proved_and_writes_the_constants(saved: Path) -> None:
    out = saved / "constants.json"
    called = call("certify", saved / "net.accelsim", "--multiplier-bits", 31, "--out", out, "--json")
    assert called.status == 0
    (layer,) = json.loads(called.out)["layers"]
    # Of 256 sums of channel 0 every fourth is a tie that goes down where a shift goes up; channel 1 has no ties.
    assert (layer["channels"], layer["certified"], layer["differing"], layer["worst"]) == (2, 1, 64, 1)
    constants = json.loads(out.read_text())["layers"]["fc"]
    assert constants["certified"] == [False, True]
    m, b, s = (constants[name][1] for name in ("multiplier", "offset", "shift"))
    codes = [min(max((2 * x * m + b) >> s, 0), 255) for x in range(256)]
    bias = np.float32(0.1) / (np.float32(2.0**-7) * np.float32(0.4 * 2.0**-6))
    scale = np.float32(2.0**-7) * np.float32(0.4 * 2.0**-6) / np.float32(2.0**-13)
    exact = np.rint((np.arange(0, 512, 2).astype(np.float32) + bias) * scale).astype(int) + 5
    assert codes == np.clip(exact, 0, 255).tolist()
    table = call("certify", saved / "net.accelsim").out
    assert "fc" in table
    # Channel 0 has the sums 0..255, channel 1 those from 0 to 510: 64 of 767.
    assert "8.3 %" in table


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["certify", "net.accelsim", "--multiplier-bits", "40"], "1 to 31"),
        (["certify", "net.accelsim", "--out", "constants.txt"], ".json or .safetensors"),
        (["compare", "net.accelsim"], "--input"),
        (["compare", "net.accelsim", "--input", "x.npy", "--with", "guesswork"], "fbgemm, qnnpack"),
        (["compare", "net.accelsim", "--input", "x.npy", "--with", "uniform"], "give the model"),
        (["extract", "net.accelsim", "--format", "yaml"], "safetensors, npz, c, mem"),
        (["extract", "net.accelsim", "--format", "c"], "--out"),
    ],
)
def test_a_wrong_call_is_answered_with_the_remedy(
    words: list[str], said: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved)
    called = call(*words)
    assert called.status == 2
    assert said in called.err


def test_compare_counts_by_cause(saved: Path) -> None:
    words = [
        "compare",
        saved / "net.accelsim",
        "--input",
        saved / "x.npy",
        "--with",
        "onednn",
        "--labels",
        saved / "y.npy",
    ]
    called = call(*words, "--json")
    assert called.status == 0
    (result,) = json.loads(called.out)["comparisons"]
    (layer,) = result["layers"]
    # Sums 1 and 3 of channel 0 are ties, and oneDNN sends both the other way; channel 1 is past the clamp.
    assert (layer["outputs"], layer["differing"], layer["causes"]) == (8, 2, {"tie direction": 2})
    assert (result["agreement"], result["accuracy"]) == (1.0, 0.75)
    text = call(*words).out
    assert "tie direction" in text
    assert "accuracy 75.0 %" in text


def test_extract_writes_a_format_and_its_manifest(saved: Path) -> None:
    called = call("extract", saved / "net.accelsim", "--format", "c", "--out", saved / "net.h", "--json")
    assert called.status == 0
    assert json.loads(called.out)["written"] == [str(saved / "net.h"), str(saved / "net.json")]
    assert "fc_requantize" in (saved / "net.h").read_text()


def test_extract_takes_a_bare_state_dict(tmp_path: Path) -> None:
    weight = torch.quantize_per_tensor(torch.tensor([[0.5, -0.25]]), 0.25, 0, torch.qint8)
    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": weight, "fc.scale": torch.tensor(0.5)}, path)
    called = call("extract", path, "--format", "npz", "--out", tmp_path / "weights.npz", "--json")
    assert called.status == 0, called.err
    assert np.load(tmp_path / "weights.npz")["fc.weight"].tolist() == [[2, -1]]
    assert "fc.weight" in call("extract", path).out
    assert "--format" in call("extract", path, "--out", tmp_path / "net.accelsim").err


LANES = """
import torch

def model():
    x = torch._make_per_tensor_quantized_tensor(torch.ones(1, 70, dtype=torch.uint8), 1.0, 0)
    return (lambda x: torch.ops.quantized.add(x, x, 4.0, 5)), x
"""


@pytest.fixture
def lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module whose model has 70 elements, all ties: a vector body of 64, whose rule is not the tail's, and a tail."""
    (tmp_path / "lanes_of_sums.py").write_text(LANES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)


def test_compare_counts_what_uniform_lanes_change(lanes: None) -> None:
    words = ["compare", "lanes_of_sums:model", "--engine", "fbgemm", "--lanes", "avx2"]
    called = call(*words)
    assert called.status == 0, called.err
    # 1/2 rounds to 0, and 5 is added; in the tail 5 + 1/2 rounds to 6.
    assert "one rule for all lanes changes 6 of 70 outputs (add 6)" in called.out
    document = json.loads(call(*words, "--with", "uniform", "--json").out)
    (layer,) = document["comparisons"][0]["layers"]
    assert (layer["differing"], layer["worst"], layer["causes"]) == (6, 1, {"lanes": 6})


def test_extract_counts_what_uniform_lanes_change_here(lanes: None) -> None:
    import lanes_of_sums

    from accelsim.frontend.recording import quantized_engine

    function, x = lanes_of_sums.model()
    with quantized_engine("fbgemm"):
        here = function(x).int_repr().numpy()
    # The body's rule is avx2's: 5 everywhere.
    changed = int(np.count_nonzero(here != 5))
    called = call("extract", "lanes_of_sums:model", "--engine", "fbgemm", "--lanes", "uniform")
    assert f"one rule for all lanes changes {changed} of 70 outputs" in called.out
    document = json.loads(
        call("extract", "lanes_of_sums:model", "--engine", "fbgemm", "--lanes", "uniform", "--json").out
    )
    assert sum(layer["differing"] for layer in document["uniform_lanes"]["layers"]) == changed > 0
    assert (
        json.loads(call("extract", "lanes_of_sums:model", "--engine", "fbgemm", "--json").out)["uniform_lanes"] is None
    )


def machine(saved: Path, arithmetic: str) -> Path:
    """The edge configuration with another requant unit."""
    text = (Path(__file__).parents[2] / "configs" / "edge_16x16.yaml").read_text()
    path = saved / "machine.yaml"
    path.write_text(text.replace("float32_exact", arithmetic))
    return path


def test_a_machine_in_fixed_point_says_what_is_proved_and_what_it_changes(saved: Path) -> None:
    config = machine(saved, "{fixed_point: {multiplier_bits: 31}}")
    out = saved / "net.bin"
    called = call("compile", config, saved / "net.accelsim", "--out", out, "--json")
    assert called.status == 0, called.err
    document = json.loads(called.out)
    (layer,) = document["certificates"]
    assert (layer["certified"], layer["channels"], layer["differing"], layer["worst"]) == (1, 2, 64, 1)
    assert document["layers"][0]["instructions"]["requant_fixed"] == 1
    assert "differing" in call("compile", config, saved / "net.accelsim", "--out", out).out
    words = ["run", config, saved / "net.accelsim", "--input", saved / "x.npy", "--labels", saved / "y.npy"]
    words += ["--plot", saved / "net.png"]
    called = call(*words, "--json")
    assert called.status == 0, called.err
    document = json.loads(called.out)
    assert document["check"] == {"outputs": 8, "differing": 0}
    # The ties 1/2 and 3/2 of channel 0 go to even, plus 5; a shift sends both up or both down.
    assert [row[0] for row in document["outputs"][0]["codes"]] in ([5, 6, 6, 7], [5, 5, 6, 6])
    (layer,) = document["effect"]["layers"]
    assert (layer["outputs"], layer["differing"], layer["worst"], layer["carried"]) == (8, 1, 1, 1)
    assert (document["effect"]["accuracy"], document["effect"]["reference_accuracy"]) == (0.75, 0.75)
    assert "accuracy 75.0 %" in call(*words).out


def test_what_fixed_point_changes_is_proved_once_and_said_where_to_be_listed(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs: list[int] = []

    def counted(*arguments: Any) -> Any:
        proofs.append(1)
        return prove(*arguments)

    monkeypatch.setattr("accelsim.network.substitution.prove", counted)
    monkeypatch.setattr("accelsim.arithmetic.units.prove", counted)
    model, config = saved / "net.accelsim", machine(saved, "{fixed_point: {multiplier_bits: 31}}")
    called = call("run", config, model, "--input", saved / "x.npy", "--plot", saved / "net.png", "--json")
    assert called.status == 0, called.err
    assert len(proofs) == 1  # one layer: for the program, the reference and the comparison with the engine
    (note,) = (note for note in json.loads(called.out)["notes"] if "certificate" in note)
    assert note.startswith("1 of 2 channels have no certificate")
    words = shlex.split(note.split("`")[1])
    assert words[:3] == ["accelsim", "certify", str(model)]
    out = saved / "differing.json"
    assert call(*words[1:-1], out).status == 0
    # Every fourth of the sums 0 to 255 of channel 0.
    (ranges,) = json.loads(out.read_text())["layers"]["fc"]["differing_ranges"].values()
    assert sum(stop - start for start, stop in ranges) == 64
    assert "accelsim certify" not in call("run", machine(saved, "gemmlowp"), model, "--plot", saved / "net.png").out


def test_a_machine_of_the_engine_s_arithmetic_has_no_effect_to_label(saved: Path) -> None:
    words = [saved / "net.accelsim", "--input", saved / "x.npy", "--plot", saved / "net.png"]
    config = machine(saved, "float32_exact")
    assert json.loads(call("run", config, *words, "--json").out)["effect"] is None
    called = call("run", config, *words, "--labels", saved / "y.npy")
    assert called.status == 2
    assert "float32_exact changes no output" in called.err


def test_a_program_for_another_arithmetic_is_refused(saved: Path) -> None:
    assert call("compile", machine(saved, "gemmlowp"), saved / "net.accelsim", "--out", saved / "net.bin").status == 0
    called = call("run", machine(saved, "thresholds"), saved / "net.bin", "--plot", saved / "net.png")
    assert called.status != 0
    assert "requant_gemmlowp" in called.err
    assert "compile the network for this machine" in called.err


NORMS = """
import torch

def model():
    raw = torch.arange(-40, 5 * 16 - 40, dtype=torch.int8).reshape(5, 16)
    packed = torch.ops.quantized.linear_prepack(torch._make_per_tensor_quantized_tensor(raw, 0.01, 0), None)
    x = torch._make_per_tensor_quantized_tensor(torch.arange(32, dtype=torch.uint8).reshape(2, 16), 0.25, 7)

    def run(x):
        y = torch.ops.quantized.layer_norm(x, [16], None, None, 1e-5, 0.02, 128)
        return torch.ops.quantized.linear(y, packed, 0.05, 128)

    return run, x
"""


def test_what_the_machine_has_no_instruction_for_stops_at_the_compiler_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "norms.py").write_text(NORMS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert call("extract", "norms:model", "--engine", "fbgemm", "--out", "net").status == 0
    assert json.loads(call("certify", "net", "--json").out)["layers"][0]["channels"] == 5
    (layer,) = json.loads(call("compare", "norms:model", "--engine", "fbgemm", "--with", "qnnpack", "--json").out)[
        "comparisons"
    ][0]["layers"]
    assert layer["outputs"] == 10
    called = call("compile", EDGE, "net", "--out", "program")
    assert called.status != 0
    assert "layer_norm: the machine has no instruction for a layer norm" in called.err
