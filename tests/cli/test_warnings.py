"""PyTorch says of every quantised model that its old quantisation will go; what else is warned of is shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MODULE = """
import warnings, torch
from torch import nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

def model():
    torch.manual_seed(0)
    x = torch.rand(1, 8)
    prepared = prepare_fx(nn.Sequential(nn.Linear(8, 4), nn.ReLU()).eval(), get_default_qconfig_mapping("fbgemm"), (x,))
    prepared(x)
    warnings.warn("this is the model's own")
    return convert_fx(prepared), x
"""


def test_only_what_a_user_can_act_on_is_shown(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    command = [sys.executable, "-m", "accelsim", "run", "teaching_4x4", "mine:model", "--effort", "0", "--json"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "this is the model's own" in ran.stderr
    assert "deprecated" not in ran.stderr
