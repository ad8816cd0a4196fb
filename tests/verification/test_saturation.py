"""Differences that int16 saturation makes on hosts without VNNI are explained one by one, and nothing else is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

WORKER = Path(__file__).with_name("saturating_worker.py")
FBGEMM = {"avx2": "AVX2", "avx512_bw": "AVX512", "avx512_vnni": "AVX512_E1"}
ONEDNN = {"avx2": "AVX2", "avx512_bw": "AVX512_CORE", "avx512_vnni": "AVX512_CORE_VNNI"}


def _ask(engine: str, capability: str) -> dict[str, Any]:
    if not torch.cpu.get_capabilities().get(capability, False):
        pytest.skip(f"this host has no {capability}")
    chosen = {"FBGEMM_ENABLE_INSTRUCTIONS": FBGEMM[capability], "ONEDNN_MAX_CPU_ISA": ONEDNN[capability]}
    run = subprocess.run(
        [sys.executable, str(WORKER), engine],
        capture_output=True,
        text=True,
        env=os.environ | chosen | {"OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    answers: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answers


@pytest.mark.parametrize(
    ("engine", "capability"),
    [
        ("fbgemm", "avx2"),
        *(
            pytest.param(engine, capability, marks=pytest.mark.full)
            for engine, capability in (("fbgemm", "avx512_bw"), ("onednn", "avx2"), ("onednn", "avx512_bw"))
        ),
    ],
)
def test_saturation_explains_every_difference_and_no_other(engine: str, capability: str) -> None:
    answers = _ask(engine, capability)
    assert {"plain", "odd channels", "1x1", "one axis", "transposed", "linear", "two layers"} <= _saturating(answers)
    for name, answer in answers.items():
        first, *later = answer["layers"]
        if first["differing"]:
            assert f"{first['differing']:,} by the int16 saturation of" in first["cause"], name
        for layer in later:
            assert f"{layer['differing']:,} inherited from the layers before" in layer["cause"], name
    _check(answers)


@pytest.mark.parametrize(
    ("capability", "saturates"),
    [
        ("avx2", True),
        pytest.param("avx512_bw", True, marks=pytest.mark.full),
        pytest.param("avx512_vnni", False, marks=pytest.mark.full),
    ],
)
def test_saturation_explains_every_difference_of_lowered_layers(capability: str, saturates: bool) -> None:
    answers = _ask("pt2e", capability)
    if saturates:
        assert {"plain", "odd channels", "1x1", "linear", "pooled"} <= _saturating(answers)
    else:
        assert not _saturating(answers)
    _check(answers)


def _saturating(answers: dict[str, Any]) -> set[str]:
    return {name for name, answer in answers.items() if any(layer["differing"] for layer in answer["layers"])}


def _check(answers: dict[str, Any]) -> None:
    """Saturation leaves nothing to explain, and excuses no wrong weight."""
    for name, answer in answers.items():
        assert not any(layer["unexplained"] for layer in answer["layers"]), (name, answer)
        assert any(layer["unexplained"] for layer in answer["with a wrong weight"]), name


@pytest.mark.full
def test_with_vnni_only_fbgemms_depthwise_kernels_saturate() -> None:
    for engine, saturating in (("fbgemm", {"depthwise"}), ("onednn", set())):
        answers = _ask(engine, "avx512_vnni")
        assert _saturating(answers) == saturating
        _check(answers)


@pytest.mark.full
def test_qnnpack_never_saturates() -> None:
    answers = _ask("qnnpack", "avx2")
    assert not _saturating(answers)
    _check(answers)
