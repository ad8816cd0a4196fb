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
    saturating = {name for name, answer in answers.items() if answer["differing"]}
    assert {"plain", "odd channels", "1x1", "one axis", "transposed", "linear"} <= saturating
    for name, answer in answers.items():
        assert answer["unexplained"] == 0, (name, answer)
        if answer["differing"]:
            assert f"{answer['differing']:,} by the int16 saturation of" in answer["cause"]
        assert answer["with a wrong weight"]["unexplained"] > 0, name


@pytest.mark.full
def test_with_vnni_only_fbgemms_depthwise_kernels_saturate() -> None:
    answers = _ask("fbgemm", "avx512_vnni")
    assert {name for name, answer in answers.items() if answer["differing"]} == {"depthwise"}
    assert answers["depthwise"]["unexplained"] == 0
    assert all(answer["with a wrong weight"]["unexplained"] > 0 for answer in answers.values())
    assert not any(answer["differing"] for answer in _ask("onednn", "avx512_vnni").values())
