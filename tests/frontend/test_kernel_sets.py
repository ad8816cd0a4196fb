"""Under every kernel set that this host has, networks equal what PyTorch computes with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from single_operators import ALL, inputs

from accelsim.errors import ModelError
from accelsim.frontend import extract
from accelsim.frontend.host import aten_kernels

HERE = Path(__file__).parent

#: What the environment asks for, and the capability that it needs.
SETS = {
    "default, avx2": ({"ATEN_CPU_CAPABILITY": "default"}, "AVX2", "AVX2", "avx2"),
    "avx2, avx2": ({"ATEN_CPU_CAPABILITY": "avx2"}, "AVX2", "AVX2", "avx2"),
    "avx512, avx512": ({"ATEN_CPU_CAPABILITY": "avx512"}, "AVX512", "AVX512_CORE", "avx512_bw"),
    "avx512, vnni": ({"ATEN_CPU_CAPABILITY": "avx512"}, "AVX512_E1", "AVX512_CORE_VNNI", "avx512_vnni"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full] * ("default" not in name)) for name in SETS]
)
def test_networks_equal_pytorch_under_every_kernel_set(name: str) -> None:
    aten, fbgemm, onednn, needs = SETS[name]
    has = torch.cpu.get_capabilities()
    if not has.get(needs, False):
        pytest.skip(f"this host has no {needs}")
    # For x86 ATen asks the processor for VNNI, whatever the environment says.
    x86 = ["x86"] if has.get("avx512_vnni", False) == ("vnni" in name) else []
    environment = os.environ | aten | {"FBGEMM_ENABLE_INSTRUCTIONS": fbgemm, "ONEDNN_MAX_CPU_ISA": onednn}
    run = subprocess.run(
        [sys.executable, str(HERE / "kernel_set_worker.py"), "fbgemm", "qnnpack", "onednn", *x86],
        capture_output=True,
        text=True,
        env=environment | {"OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout.splitlines()[-1])
    assert answer["failures"] == []
    assert answer["compared"] > 50_000
    wanted = dict(zip(("aten", "matrix"), name.split(", "), strict=True))
    assert answer["kernels"]["fbgemm"] == answer["kernels"]["onednn"] == wanted


def test_tables_of_other_kernels_than_this_processs_are_refused() -> None:
    other = "avx2" if aten_kernels() == "default" else "default"
    for name in ("hardswish", "elu", "leaky_relu"):
        with pytest.raises(ModelError, match=f"rounded otherwise by the {other} kernels.*ATEN_CPU_CAPABILITY={other}"):
            extract(ALL[name], inputs("channels_last", "uint8"), engine="fbgemm", lanes=other)
    # A sum's rule is known for every kernel set.
    assert extract(ALL["add"], inputs("channels_last", "uint8"), engine="fbgemm", lanes=other).kernels.aten == other
