"""The demonstration: what it prints, what it leaves, and its exit status."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import accelsim
from examples import demo, digits

ROOT = Path(__file__).parents[2]


def test_an_engine_is_compared_in_every_layer_on_every_image() -> None:
    run = demo.run_engine("qnnpack", images=6)
    labels = digits.test_set()[1][:6]
    compared = {layer.name: layer.compared for layer in run.verification.layers}
    # Sizes of the layers' outputs for one image, read off the network's definition.
    sizes = {"conv1": 16 * 64, "conv2": 24 * 36, "conv3": 24 * 36, "conv4": 24 * 36, "residual": 24 * 36}
    sizes |= {"pool": 24 * 9, "conv5": 48 * 4, "average": 48, "fc1": 32, "fc2": 10}
    assert {name: compared[name] for name in sizes} == {name: 6 * size for name, size in sizes.items()}
    assert run.verification.differing_bits == 0
    guesses = run.result.outputs[0].quantized.argmax(axis=1)
    assert run.simulated_accuracy == pytest.approx((guesses == labels.numpy()).mean())
    assert run.quantized_accuracy == run.simulated_accuracy
    # Multiplications counted by hand: outputs x inputs x taps, for two of the layers.
    macs = {layer.name: layer for layer in run.result.layers}
    for name, by_hand in (("conv2", 24 * 36 * 16 * 9), ("fc1", 32 * 48)):
        assert macs[name].macs == by_hand
        assert macs[name].utilization == by_hand / (macs[name].cycles * 16 * 16)


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images an engine, four points, and programs that are not searched for."""
    whole = demo.run_engine
    monkeypatch.setattr(demo, "run_engine", lambda engine: whole(engine, images=2))
    monkeypatch.setattr(demo, "SWEEP", ("mac_array.rows=8,16", "mac_array.columns=8,16"))
    monkeypatch.setattr(demo, "run_sweep", functools.partial(demo.run_sweep, effort=0))
    monkeypatch.setattr(accelsim, "compile", functools.partial(accelsim.compile, effort=0))
    monkeypatch.setattr(demo, "RESULTS", tmp_path)
    return tmp_path


def test_it_prints_tables_leaves_pictures_and_succeeds(short: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main() == 0
    said = capsys.readouterr().out
    for engine in digits.ENGINES:
        assert engine in said
    for title in ("Accuracy", "Every layer", "Cycles by layer", "Bytes read and written", "Digits on variants"):
        assert title in said
    assert "0 differing bits: equal to PyTorch in every bit" in said
    for name in ("digits_utilization.png", "digits_utilization.svg", "digits_sweep.png", "digits_sweep.svg"):
        assert (short / name).stat().st_size > 1000
        assert name in said


def test_one_differing_bit_is_an_exit_status(
    short: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(digits, "ENGINES", ("fbgemm", "x86"))
    monkeypatch.setattr(demo, "SWEEP", ("mac_array.rows=8,16",))
    right = demo.run_engine

    def wrong(engine: str) -> demo.Run:
        run = right(engine)
        if engine != "x86":
            return run
        first, *others = run.verification.layers
        first = dataclasses.replace(first, differing=1, differing_bits=1)
        return dataclasses.replace(run, verification=dataclasses.replace(run.verification, layers=(first, *others)))

    monkeypatch.setattr(demo, "run_engine", wrong)
    assert demo.main() == 1
    assert "1 differing bits: NOT equal to PyTorch" in capsys.readouterr().out


@pytest.mark.full
def test_the_whole_demonstration_runs_without_a_terminal() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "examples.demo"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert "outputs of four engines compared, 0 differing bits" in ran.stdout
    assert "\x1b" not in ran.stdout
