"""Models on the command line: extracted, compiled, run, explained, compared and swept."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import accelsim
import accelsim.compiler
from accelsim.compiler import Compilation
from accelsim.isa import Load, Memory, Program, Segment
from accelsim.limits import Limits
from accelsim.report import sweep_plots

from .calling import EDGE, call

BIN = Path(sys.executable).parent

MODULE = '''
import torch
from torch import nn
from torch.ao import quantization

def model(inputs=12):
    """Two linear layers for whatever engine is set, and two rows of input."""
    print("this goes to stderr")
    torch.manual_seed(0)
    net = nn.Sequential(quantization.QuantStub(), nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, 5),
                        quantization.DeQuantStub())
    net.qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)
    quantization.fuse_modules(net, [["1", "2"]], inplace=True)
    quantization.prepare(net, inplace=True)
    net(torch.randn(64, inputs))
    return quantization.convert(net.eval(), inplace=True), torch.randn(2, inputs)

def for_fbgemm():
    torch.backends.quantized.engine = "fbgemm"
    return model()

def for_qnnpack():
    torch.backends.quantized.engine = "qnnpack"
    return model()

def in_float():
    return nn.Linear(3, 2), torch.zeros(1, 3)

def wrong_input():
    return model()[0], torch.zeros(1, 5)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a module of models and, extracted for fbgemm, a saved network."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "cli_models.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.chdir(folder)
        assert call("extract", "cli_models:for_fbgemm", "--out", "net.accelsim").status == 0
    return folder


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    before = torch.backends.quantized.engine
    yield
    torch.backends.quantized.engine = before


def made(name: str) -> tuple[Any, torch.Tensor]:
    import cli_models

    return getattr(cli_models, name)()


def test_extract_lists_what_the_state_dict_holds() -> None:
    called = call("extract", "cli_models:for_fbgemm", "--json")
    assert called.status == 0
    document = json.loads(called.out)
    assert document["engine"] == "fbgemm"
    model, _ = made("for_fbgemm")
    state = model.state_dict()
    for row in document["parameters"]:
        for key in filter(None, row["key"].split(", ")):
            assert key in state, key
    rows = {(row["layer"], row["role"]): row for row in document["parameters"]}
    for path in ("1", "3"):
        weight, bias = state[f"{path}._packed_params._packed_params"]
        row = rows[path, "weight"]
        assert row["shape"] == list(weight.shape)
        assert row["dtype"] == "int8"
        assert row["scale"] == weight.q_per_channel_scales().tolist()
        assert row["zero_point"] == [0] * len(row["scale"])
        assert (row["low"], row["high"]) == (int(weight.int_repr().min()), int(weight.int_repr().max()))
        assert rows[path, "bias"]["low"] == float(bias.detach().min())
        assert rows[path, "output"]["scale"] == [float(state[f"{path}.scale"])]
        assert rows[path, "output"]["zero_point"] == [int(state[f"{path}.zero_point"])]
    shown = call("extract", "cli_models:for_fbgemm").out
    assert "3._packed_params._packed_params" in shown
    assert "8x12" in shown


@pytest.mark.parametrize("name", ["model", "for_fbgemm", "for_qnnpack"])
def test_a_run_compares_every_layer_with_pytorch(name: str) -> None:
    torch.backends.quantized.engine = "x86"
    called = call("run", EDGE, f"cli_models:{name}", "--json")
    assert called.status == 0, called.err
    document = json.loads(called.out)
    verification = document["verification"]
    assert verification["engine"] == {"model": "x86"}.get(name, name.removeprefix("for_"))
    compared = {layer["name"]: layer["compared"] for layer in verification["layers"]}
    assert {"1": 16, "3": 10}.items() <= compared.items()
    assert verification["differing_bits"] == 0
    model, x = made(name)
    with torch.no_grad():
        expected = model[3](model[1](model[0](x))).int_repr()
    assert document["outputs"][0]["codes"] == expected.tolist()
    macs = {layer["name"]: layer["macs"] for layer in document["layers"]}
    assert (macs["1"], macs["3"]) == (2 * 12 * 8, 2 * 8 * 5)


def test_the_engine_is_set_while_the_model_is_made() -> None:
    document = json.loads(call("run", EDGE, "cli_models:model", "--engine", "qnnpack", "--json").out)
    assert document["verification"]["engine"] == "qnnpack"


def test_what_a_model_prints_is_not_part_of_the_result() -> None:
    called = call("run", EDGE, "cli_models:model", "--json")
    assert "this goes to stderr" in called.err
    json.loads(called.out)


@pytest.mark.parametrize("name", ["in_float", "wrong_input"])
def test_a_model_that_cannot_be_taken_has_status_1(name: str) -> None:
    called = call("run", EDGE, f"cli_models:{name}")
    assert (called.status, called.out) == (1, "")
    assert "error: " in called.err


def test_a_saved_network_is_timed_without_and_checked_with_an_input() -> None:
    timed = json.loads(call("run", EDGE, "net.accelsim", "--json").out)
    assert timed["outputs"] == []
    assert "timing only" in timed["notes"][-1]
    x = np.random.default_rng(3).normal(size=(6, 12)).astype(np.float32)
    np.save("x.npy", x)
    checked = json.loads(call("run", EDGE, "net.accelsim", "--input", "x.npy", "--json").out)
    assert checked["check"] == {"outputs": 6 * 5, "differing": 0}
    assert checked["cycles"] == timed["cycles"]
    assert checked["traffic"] == timed["traffic"]
    expected = accelsim.Network.load("net.accelsim").run(x)[0].quantized
    assert checked["outputs"][0]["codes"] == expected.tolist()


@pytest.mark.parametrize("shape", [(3, 12), (2, 11), (2, 12, 1)])
def test_an_input_of_the_wrong_shape_is_named(shape: tuple[int, ...]) -> None:
    np.save("wrong.npy", np.zeros(shape, np.float32))
    called = call("run", EDGE, "net.accelsim", "--input", "wrong.npy")
    assert called.status == 2
    assert str(shape) in called.err


def test_a_compiled_program_runs_as_the_model_does() -> None:
    assert call("compile", EDGE, "net.accelsim", "--out", "net.bin").status == 0
    dumped = call("compile", EDGE, "net.accelsim", "--out", "again.bin", "--dump-after", "synchronize")
    assert dumped.status == 0
    assert Path("again.bin").read_bytes() == Path("net.bin").read_bytes()
    assert dumped.out.splitlines()[-1].endswith(": halt")
    refused = call("compile", EDGE, "net.accelsim", "--out", "again.bin", "--dump-after", "fold")
    assert refused.status == 2
    assert "synchronize" in refused.err
    explained = call("compile", EDGE, "net.accelsim", "--out", "again.bin", "--explain", "--json")
    assert all(9 <= plan["sum_bits"] <= 32 for plan in json.loads(explained.out)["plans"])
    np.save("x2.npy", np.random.default_rng(4).normal(size=(2, 12)).astype(np.float32))
    runs = [
        json.loads(call("run", EDGE, what, "--input", "x2.npy", "--json").out) for what in ("net.accelsim", "net.bin")
    ]
    for key in ("outputs", "cycles", "traffic", "units", "layers"):
        assert runs[0][key] == runs[1][key], key
    text = call("disassemble", "net.bin", "--data").out
    assert accelsim.assemble(text).words() == Program.load("net.bin").words()


def test_explain_works_consecutive_layers_and_pytorch_agrees() -> None:
    words = ["explain", "cli_models:for_fbgemm", "--layers", "1", "3", "--element", "11", "--markdown", "page.md"]
    document = json.loads(call(*words, "--json").out)
    first, second = document["layers"]
    assert (first["layer"], second["layer"]) == ("1", "3")
    model, x = made("for_fbgemm")
    with torch.no_grad():
        hidden = model[1](model[0](x))
        out = model[3](hidden)
    assert first["torch_code"] == first["code"] == int(hidden.int_repr().flatten()[11])
    assert second["torch_code"] == second["code"] == int(out.int_repr().flatten()[second["element"]])
    assert second["inputs"][second["handed_on"]] == first["code"]
    page = Path("page.md").read_text()
    assert page.startswith("# One output, worked through: 1 and 3")
    assert re.search(r"`int_repr\(\)` at \[1, 3\] of 1 is \d+: equal", page)
    shown = call(*words).out
    assert f"M = {first['fixed_point']['multiplier']}" in shown
    assert "written to page.md" in shown


def test_explain_says_which_layers_there_are() -> None:
    for words, said in (
        (["--layers", "2"], "no such layer; explain takes 1, 3"),
        (["--layers", "1", "--element", "16"], "has 16 elements"),
        (["--layers", "1", "--element", "-1"], "has 16 elements"),
    ):
        called = call("explain", "cli_models:for_fbgemm", *words)
        assert (called.status, called.out) == (2, "")
        assert said in called.err


def test_verify_finds_nothing_and_finds_one_altered_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["verify", "cli_models:for_fbgemm", "--config", EDGE, "--json"]
    clean = call(*words)
    assert clean.status == 0
    document = json.loads(clean.out)
    assert (document["differing_bits"], document["mismatches"]) == (0, 0)
    assert document["compared"] >= 26
    compile_with_plans = accelsim.compiler.compile_with_plans

    def altered(*arguments: Any, **named: Any) -> Compilation:
        compilation = compile_with_plans(*arguments, **named)
        program = compilation.program
        at = min(item.dram for item in program.instructions if isinstance(item, Load) and item.memory == Memory.WEIGHT)
        data = []
        for segment in program.data:
            content = bytearray(segment.content)
            if segment.address <= at < segment.address + len(content):
                content[at - segment.address] ^= 0x40
            data.append(Segment(segment.address, bytes(content)))
        return dataclasses.replace(compilation, program=dataclasses.replace(program, data=tuple(data)))

    monkeypatch.setattr(accelsim.compiler, "compile_with_plans", altered)
    wrong = call(*words)
    assert wrong.status == 1
    assert json.loads(wrong.out)["mismatches"] > 0


def test_the_effort_is_the_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    efforts: list[int] = []
    compile_with_plans = accelsim.compiler.compile_with_plans

    def recorded(*arguments: Any, effort: int, limits: Limits) -> Compilation:
        efforts.append(effort)
        return compile_with_plans(*arguments, effort=0, limits=limits)

    monkeypatch.setattr(accelsim.compiler, "compile_with_plans", recorded)
    for words in (
        ["compile", EDGE, "net.accelsim", "--out", "net.bin"],
        ["run", EDGE, "net.accelsim", "--plot", "net.png"],
        ["verify", "cli_models:for_fbgemm", "--config", EDGE],
    ):
        efforts.clear()
        for more in ((), ("--effort", "2"), ("--effort", "0")):
            assert call(*words, *more).status == 0, words
        assert efforts == [1, 2, 0]
        assert call(*words, "--effort", "3").status == 2


def test_verify_needs_a_pytorch_model() -> None:
    called = call("verify", "net.accelsim", "--config", EDGE)
    assert called.status == 2
    assert "needs the PyTorch model" in called.err


def test_a_torchscript_file_needs_an_input_and_gives_the_same(folder: Path) -> None:
    model, x = made("for_fbgemm")
    torch.jit.trace(model, x).save("net.pt")
    np.save("x3.npy", x.numpy())
    called = call("run", EDGE, "net.pt", "--engine", "fbgemm", "--trust")
    assert called.status == 2
    assert "--input" in called.err
    words = ["run", EDGE, "net.pt", "--engine", "fbgemm", "--input", "x3.npy", "--trust", "--json"]
    document = json.loads(call(*words).out)
    assert document["verification"]["mismatches"] == 0
    with torch.no_grad():
        expected = model[3](model[1](model[0](x))).int_repr()
    assert document["outputs"][0]["codes"] == expected.tolist()


def test_another_engine_than_a_saved_networks_is_refused() -> None:
    called = call("run", EDGE, "net.accelsim", "--engine", "qnnpack")
    assert called.status == 2
    assert "fbgemm" in called.err


def test_a_sweep_keeps_its_points_and_draws_them() -> None:
    words = ["sweep", EDGE, "net.accelsim", "--set", "mac_array.rows=4,8", "--set", "mac_array.columns=4,8"]
    words += ["--store", "s.sqlite", "--plot", "s.png", "--jobs", "1", "--json"]
    first = call(*words)
    assert first.status == 0
    document = json.loads(first.out)
    assert (len(document["points"]), document["reused"]) == (4, 0)
    assert document["pictures"] == ["s.png", "s.svg"]
    best = min(document["points"], key=lambda point: point["cycles"])
    assert document["best"] == best["parameters"] or best["cycles"] in [
        point["cycles"] for point in document["points"] if point["parameters"] == document["best"]
    ]
    again = json.loads(call(*words).out)
    assert again["reused"] == 4
    assert again["points"] == document["points"]


def test_what_cannot_be_written_is_a_wrong_call_before_the_work(folder: Path) -> None:
    (folder / "taken").mkdir(exist_ok=True)
    for words in (
        ["extract", "net.accelsim", "--out", "taken"],
        ["compile", EDGE, "net.accelsim", "--out", "absent/net.bin"],
        ["explain", "cli_models:for_fbgemm", "--layers", "1", "--markdown", "absent/page.md"],
        ["run", EDGE, "net.accelsim", "--plot", "net.accelsim/plot.png"],
        ["sweep", EDGE, "net.accelsim", "--set", "dram.latency=1", "--store", "taken"],
    ):
        called = call(*words)
        assert (called.status, called.out) == (2, ""), words
        assert "error: " in called.err
    words = ["sweep", EDGE, "net.accelsim", "--set", "dram.latency=1", "--store", "kept.sqlite", "--jobs", "1"]
    assert call(*words, "--plot", "net.accelsim/plot.png").status == 2
    assert not Path("kept.sqlite").exists()


def test_a_sweep_whose_picture_fails_keeps_its_points_and_shows_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(done: object) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr(sweep_plots, "sweep_figure", fails)
    words = ["sweep", EDGE, "net.accelsim", "--set", "dram.latency=1", "--store", "kept.sqlite", "--jobs", "1"]
    called = call(*words, "--plot", "map.png", "--json")
    assert called.status == 2
    assert json.loads(called.out)["points"][0]["cycles"] > 0
    assert called.err.splitlines()[1:] == ["error: map.png: the picture cannot be drawn (RuntimeError: no font)"]
    assert finished("kept.sqlite") == [1]


def test_an_interrupted_sweep_goes_on(folder: Path) -> None:
    words = ["sweep", EDGE, "net.accelsim", "--set", f"dram.latency={','.join(map(str, range(400)))}"]
    words += ["--store", "long.sqlite", "--plot", "long.png", "--jobs", "1", "--json"]
    process = subprocess.Popen(
        [str(BIN / "accelsim"), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not finished("long.sqlite"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    kept = finished("long.sqlite")
    assert kept
    ahead, said, command = err.splitlines()
    assert ": 400 points; about " in ahead
    assert ahead.endswith(" in 1 process, guessed from the number of layers")
    assert said.startswith("interrupted; ")
    assert said.endswith("of 400 points are in long.sqlite; this goes on:")
    assert int(said.split()[1]) in (len(kept), len(kept) - 1)
    program, *again = shlex.split(command)
    assert program == "accelsim"
    assert again[:5] == words[:5]
    words = again
    words[4] = f"dram.latency={','.join(map(str, kept))}"
    document = json.loads(call(*words).out)
    assert document["reused"] == len(kept) == len(document["points"])


def test_a_study_sweeps_each_network_on_each_configuration(folder: Path) -> None:
    Path("study.yaml").write_text(
        "configurations: [teaching_4x4, edge_16x16]\nnetworks: [net.accelsim, net.accelsim]\nset: {dram.latency: 4}\n"
    )
    assert "networks: one is listed twice" in call("sweep", "study.yaml").err
    Path("study.yaml").write_text(
        "configurations: [teaching_4x4, edge_16x16]\nnetworks: net.accelsim\nwhere: rows * columns <= 64\n"
        "set: {'mac_array.rows, mac_array.columns': {powers_of_two: [4, 16]}}\n"
    )
    words = ["--store", "study.sqlite", "--plot", "study.png", "--jobs", "1", "--effort", "0"]
    called = call("sweep", "study.yaml", *words, "--json", "--sort", "cycles")
    assert called.status == 0
    document = json.loads(called.out)
    assert [each["accelerator"]["name"] for each in document["sweeps"]] == ["teaching_4x4", "edge_16x16"]
    for each in document["sweeps"]:
        rows = [point["parameters"]["mac_array.rows"] for point in each["points"]]
        assert sorted(rows) == [4, 8]
        assert each["points"][0]["cycles"] == min(point["cycles"] for point in each["points"])
        for point in each["points"]:
            assert point["parameters"]["mac_array.columns"] == point["parameters"]["mac_array.rows"]
            assert sum(point["bounds"].values()) == point["cycles"]
            assert sum(point["stalls"].values()) + point["units"]["mac"]["busy"] == point["cycles"]
    assert called.err.startswith("4 points: networks 1, configurations 2\n")
    assert len(document["pictures"]) == 4
    # The same from flags, all of it from the store; the table has a line for the best of each.
    flags = ["sweep", "teaching_4x4", "net.accelsim", "--config", "edge_16x16", "--where", "rows * columns <= 64"]
    again = call(*flags, "--set", "mac_array.rows,mac_array.columns=4..16", *words)
    assert again.status == 0
    assert "4 points, 4 of them from study.sqlite" in again.out
    assert "Best points" in again.out
    refused = call("sweep", "study.yaml", "--set", "dram.latency=1")
    assert (refused.status, "a study says all itself" in refused.err) == (2, True)
    unsorted = call(*flags, "--set", "dram.latency=1", "--sort", "speed")
    assert (unsorted.status, "--sort speed: takes one of cycles, time" in unsorted.err) == (2, True)


def test_a_base_whose_array_exceeds_its_banks_is_warned_about_once(folder: Path) -> None:
    words = ["sweep", EDGE, "net.accelsim", "--set", "mac_array.columns=8,16,32", "--set", "dram.latency=1,2"]
    words += ["--set", "buffers.accumulator.banks=16", "--store", "b.sqlite", "--plot", "b.png", "--effort", "0"]
    called = call(*words, "--jobs", "1")
    assert (
        called.err.count("buffers.accumulator.banks = 16 is less than mac_array.columns = 32 (at 2 of 6 points)") == 1
    )
    assert called.err.count("is less than") == 1


def test_results_lists_chooses_exports_and_merges(folder: Path) -> None:
    words = ["sweep", EDGE, "net.accelsim", "--set", "mac_array.rows=4,8", "--effort", "0", "--jobs", "1"]
    assert call(*words, "--store", "r.sqlite", "--plot", "r.png").status == 0
    listed = json.loads(call("results", "r.sqlite", "--json", "--sort", "cycles").out)
    assert sorted(point["mac_array.rows"] for point in listed) == [4, 8]
    assert listed[0]["cycles"] <= listed[1]["cycles"]
    called = call("results", "r.sqlite", "--where", "rows > 4", "--csv", "r.csv", "--merge", "m.sqlite")
    assert called.status == 0
    assert "mac_array.rows = 8" in called.out
    assert "1 of 2 points, written to r.csv" in called.out
    assert called.err == "2 points put into m.sqlite\n"
    assert len(Path("r.csv").read_text().splitlines()) == 2
    both = json.loads(call("results", "r.sqlite", "m.sqlite", "--json", "--top", "5").out)
    assert len(both) == 2
    for refused, said in (
        (["results", "none.sqlite"], "no such file"),
        (["results", "r.sqlite", "--merge", "r.sqlite"], "is one of the stores"),
        (["results", "net.accelsim"], "net.accelsim"),
        (["results", "r.sqlite", "--where", "speed > 1"], "there is no key speed"),
    ):
        called = call(*refused)
        assert (called.status, said in called.err, called.out) == (2, True, ""), refused


def finished(store: str) -> list[int]:
    """The latencies of the points that the store holds."""
    if not Path(store).exists():
        return []
    with sqlite3.connect(store) as connection:
        try:
            rows = connection.execute("SELECT json_extract(configuration, '$.dram.latency') FROM points").fetchall()
        except sqlite3.OperationalError:  # not made yet
            return []
    return [latency for (latency,) in rows]
