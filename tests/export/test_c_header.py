"""The C header compiles, and an integer-only program around it computes PyTorch's bits."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from accelsim.export import network_bundle, write
from accelsim.export.names import Identifiers

from .layers import SIZE, network_of, torch_model

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
IMAGES = 40

#: Two layers: padded 3 x 3 convolution of 2 x 6 x 6 codes to 5 channels, then a linear layer to 7 outputs.
PROGRAM = r"""
#include <stdio.h>
#include "net.h"
int main(void) {
    static uint8_t x[2][6][6], h[5][6][6];
    while (fread(x, 1, sizeof x, stdin) == sizeof x) {
        for (int o = 0; o < 5; o++) for (int i = 0; i < 6; i++) for (int j = 0; j < 6; j++) {
            int32_t acc = 0;
            for (int c = 0; c < 2; c++) for (int u = 0; u < 3; u++) for (int v = 0; v < 3; v++) {
                int a = i + u - 1, b = j + v - 1, out = a < 0 || a > 5 || b < 0 || b > 5;
                acc += (out ? x_ZERO_POINT : x[c][a][b]) * _1_weight[o][c][u][v];
            }
            h[o][i][j] = _1_requantize(acc, o);
        }
        for (int o = 0; o < 7; o++) {
            int32_t acc = 0;
            for (int k = 0; k < 180; k++) acc += ((uint8_t *)h)[k] * _3_weight[o][k];
            putchar(_3_requantize(acc, o));
        }
    }
}
"""


@pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")
@pytest.mark.parametrize("bits", [31, 12], ids=["fixed point", "thresholds"])
@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack"])
def test_a_program_of_integers_gets_pytorch_s_bits(engine: str, bits: int, tmp_path: Path) -> None:
    model = torch_model(engine)
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 128, (IMAGES, 2, SIZE, SIZE))
    x = torch.from_numpy((codes - int(model[0].zero_point)) * float(model[0].scale)).float()
    quantised = model[0](x)
    assert np.array_equal(quantised.int_repr().numpy(), codes)
    hidden = model[1](quantised)
    assert 60 < hidden.int_repr().max() < 128  # no pair of products reaches int16's end on a host without VNNI
    expected = model[3](model[2](hidden)).int_repr().numpy()
    assert len(np.unique(expected)) > 50

    bundle = network_bundle(network_of(model, engine, IMAGES), bits)
    header, manifest = write(bundle, "c", tmp_path / "net.h")
    form = "_1_multiplier[c]" if bits == 31 else "_1_thresholds[c][i]"
    assert form in header.read_text()
    assert "float" not in header.read_text()
    assert "double" not in header.read_text()
    assert manifest.exists()
    (tmp_path / "main.c").write_text(PROGRAM)
    binary = tmp_path / "main"
    flags = ["-std=c99", "-O1", "-Wall", "-Werror", "-Wno-unused"]
    build = subprocess.run(
        [str(COMPILER), *flags, "-o", str(binary), str(tmp_path / "main.c")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr
    result = subprocess.run([str(binary)], input=codes.astype(np.uint8).tobytes(), capture_output=True, check=True)
    assert np.array_equal(np.frombuffer(result.stdout, np.uint8).reshape(expected.shape), expected)


def test_identifiers_are_legal_in_c_and_distinct() -> None:
    names = Identifiers()
    found = [names.of(name) for name in ("layer1.0.conv", "layer1_0_conv", "0", "größe", "layer1.0.conv", "")]
    assert found == ["layer1_0_conv", "layer1_0_conv_2", "_0", "gr__e", "layer1_0_conv", "_"]
