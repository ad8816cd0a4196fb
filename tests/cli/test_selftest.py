"""`accelsim selftest`: this processor's kernels keep the rules, and a rule that is wrong is found and named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import accelsim.arithmetic.elementwise
import accelsim.frontend.packages
import accelsim.frontend.selftest
from accelsim.arithmetic import matrix
from accelsim.frontend.selftest import cases

from .calling import call


def test_every_rule_of_an_engine_holds_and_much_is_compared() -> None:
    document = json.loads(call("selftest", "--engine", "pt2e", "--json").out)
    assert document["holds"]
    assert set(document["engines"]) == {"pt2e"}
    assert all(rule["holds"] and not rule["refused"] for rule in document["rules"])
    assert min(rule["compared"] for rule in document["rules"]) > 500


@pytest.mark.witness
def test_every_rule_of_onnx_runtime_holds() -> None:
    pytest.importorskip("onnxruntime")
    document = json.loads(call("selftest", "--engine", "onnxruntime", "--json").out)
    assert document["holds"]
    assert all(rule["compared"] > 200 and not rule["refused"] for rule in document["rules"])


def test_without_any_kernels_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelsim.frontend.selftest, "engines", lambda: ())
    called = call("selftest")
    assert called.status == 2
    assert "pip install 'accelsim[torch]'" in called.err


@pytest.mark.full
def test_every_rule_of_every_engine_holds() -> None:
    document = json.loads(call("selftest", "--json").out)
    assert document["holds"]
    assert set(document["engines"]) <= {"fbgemm", "qnnpack", "x86", "onednn", "pt2e", "onnxruntime"}
    assert sum(rule["compared"] for rule in document["rules"]) > 10**6
    unheld = {(rule["engine"], rule["operator"]) for rule in document["rules"] if not rule["compared"]}
    assert unheld <= {
        ("qnnpack", "convolution over three axes"),
        *((engine, "softmax") for engine in ("fbgemm", "x86", "onednn")),
    }


def test_a_rule_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ReLU that leaves the zero point, and sums that round one step up: what those rules are for differs, alone."""
    few = ("convolution, dilated", "linear", "add", "mul", "relu", "max_pool2d")
    monkeypatch.setattr(cases, "CASES", {name: cases.CASES[name] for name in few})
    right = matrix._fbgemm

    def wrong(layer: Any) -> Any:
        found = right(layer)
        return replace(found, zero_point=found.zero_point + 1) if layer.relu else found

    monkeypatch.setattr(matrix, "_fbgemm", wrong)
    called = call("selftest", "--engine", "fbgemm")
    assert called.status == 1
    lines = {name: next(line for line in called.out.splitlines() if f" {name} " in line) for name in few}
    for name, line in lines.items():
        assert ("differ" in line) == (name == "convolution, dilated"), line
        assert ("holds" in line) == (name != "convolution, dilated"), line
    assert "1 do not: do not trust" in called.out
    document = json.loads(call("selftest", "--engine", "fbgemm", "--json").out)
    assert [rule["operator"] for rule in document["rules"] if not rule["holds"]] == ["convolution, dilated"]
    assert not document["holds"]


def _summed_up(maker: Any) -> Any:
    """A case of which nothing is made: running sums of another one's result."""

    def made(draw: Any) -> Any:
        model, inputs = maker(draw)
        return lambda x: torch.quantize_per_tensor(model(x).dequantize().cumsum(1), 0.5, 3, torch.quint8), inputs

    return made


def test_what_is_not_there_is_said_and_does_not_count_as_held(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(draw: Any) -> Any:
        raise AttributeError("'_OpNamespace' 'quantized' object has no attribute 'conv2d_prepack'")

    softmax, add = (cases.CASES[name] for name in ("softmax", "add"))
    running = _summed_up(softmax)
    monkeypatch.setattr(cases, "CASES", {"gone": missing, "running": running, "add": add})
    called = call("selftest", "--engine", "fbgemm")
    assert called.status == 0
    assert "no kernel" in called.out
    assert "refused" in called.out
    assert "no attribute 'conv2d_prepack'" in called.out
    assert ": 1 rules hold over" in called.out
    wrong = call("selftest", "--engine", "sometimes")
    assert wrong.status == 2
    assert "this installation has the kernels of" in wrong.err


MODEL = """
import torch
packed = torch.ops.quantized.linear_prepack(torch.quantize_per_tensor(torch.eye(4), 0.5, 0, torch.qint8), None)

def model():
    x = torch.quantize_per_tensor(torch.arange(4.0)[None], 0.5, 3, torch.quint8)
    return lambda x: torch.ops.quantized.linear(x, packed, 0.5, 3), x
"""


def test_verify_and_the_warning_of_a_newer_pytorch_point_to_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mine_to_verify.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    words = ("verify", "mine_to_verify:model", "--config", "teaching_4x4", "--engine", "fbgemm")
    assert "selftest" not in call(*words).out
    right = matrix._fbgemm
    monkeypatch.setattr(matrix, "_fbgemm", lambda layer: replace(right(layer), zero_point=7))
    called = call(*words)
    assert called.status == 1
    assert "`accelsim selftest` says which rules hold" in called.out
    newer = SimpleNamespace(__version__="9.1.0")
    monkeypatch.setattr(accelsim.frontend.packages, "package", lambda *names: newer)
    with pytest.warns(UserWarning, match=r"PyTorch 9\.1\.0 is newer than .*`accelsim selftest` compares every rule"):
        accelsim.frontend.packages.pytorch()
