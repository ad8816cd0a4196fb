"""How many channels have a certificate, by the width of the multiplier and the length of the sums.

The shares of `docs/integer_arithmetic.md` ("How many channels have a certificate") are read from the page, and met by
layers drawn anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.certificate import prove
from accelsim.arithmetic.engines import KernelSet
from accelsim.arithmetic.matrix import requantization
from accelsim.arithmetic.reachable import Reachable, reachable

PAGE = Path(__file__).parents[2] / "docs" / "integer_arithmetic.md"
TERMS = (27, 144, 576, 1152, 4608)
#: Channels of a layer; layers in `make test` and in `make test-full`.
CHANNELS = 128
LAYERS = (2, pytest.param(32, marks=pytest.mark.full))


def certified(
    engine: str,
    terms: int,
    bits: int,
    layers: int,
    *,
    step: float | None = None,
    known_weights: bool = False,
) -> float:
    """The share of channels with a certificate among layers of `terms` products a sum.

    Weights: normal, three standard deviations at 127; activations: uniform over all codes around their zero point. The
    bias is of the size of a standard deviation of the sums, and the range of the output six of them, unless `step`
    gives the accumulators a code. The accumulators are all that any weights can reach, or (`known_weights`) all that
    these can.
    """
    rng = np.random.default_rng([terms, layers])
    found = 0
    for _ in range(layers):
        sw = rng.uniform(0.5, 2, CHANNELS) * 0.005
        source = Affine(float(rng.uniform(0.005, 0.05)), int(rng.integers(96, 160)), "uint8")
        weights = np.clip(np.rint(rng.normal(0, 127 / 3, (CHANNELS, terms))), -127, 127).astype(np.int64)
        unit = (6 * deviation(terms) / 255 if step is None else step) * source.scale
        rule = requantization(
            engine,
            KernelSet("avx2", "avx2"),
            kind="linear",
            input=source,
            weight_scale=sw,
            weight_zero_point=np.zeros(CHANNELS, np.int32),
            per_channel=True,
            output=Affine(float(unit * sw.mean()), int(rng.integers(96, 160)), "uint8"),
            bias=(rng.normal(0, 42, CHANNELS) * unit * sw).astype(np.float32),
            relu=False,
            channels=CHANNELS,
        )
        ends = np.full(CHANNELS, terms * 128 * 255, np.int64)
        reach = reachable(weights, -source.zero_point, 255 - source.zero_point)
        found += int(prove(rule, reach if known_weights else Reachable(-ends, ends), bits).certified.sum())
    return found / (layers * CHANNELS)


def deviation(terms: int) -> float:
    """The standard deviation of a sum."""
    return float(np.sqrt(terms) * (127 / 3) * (255 / np.sqrt(12)))


def slack(share: float, layers: int) -> float:
    """Four standard deviations of a share among that many channels, and a percent for the figure's own digits.

    Those of a layer count as a quarter of them: they have the input's and the output's scale in common.
    """
    return 4 * float(np.sqrt(max(share * (1 - share), 0.01) / (layers * CHANNELS / 4))) + 0.01


def page() -> dict[tuple[str, int], list[float]]:
    """The rows of the page's table: shares by engine and bits."""
    rows = re.findall(r"^\| (\w+), (\d+) bits \|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        (engine, int(bits)): [int(cell.strip().removesuffix(" %")) / 100 for cell in cells.split("|")]
        for engine, bits, cells in rows
    }


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize(("engine", "bits"), list(page()))
def test_the_shares_of_the_page_are_met(engine: str, bits: int, layers: int) -> None:
    for terms, share in zip(TERMS, page()[engine, bits], strict=True):
        assert certified(engine, terms, bits, layers) == pytest.approx(share, abs=slack(share, layers)), terms


def test_the_page_is_near_what_was_measured_first() -> None:
    # By another program, which is gone; over layers of fbgemm whose steps were of this size.
    assert page()["fbgemm", 31] == pytest.approx([0.97, 0.84, 0.63, 0.44, 0.16], abs=0.06)
    assert [page()["fbgemm", 16][place] for place in (0, -1)] == pytest.approx([0.04, 0], abs=0.02)
    assert page()["fbgemm", 20][-1] == pytest.approx(0.02, abs=0.02)
    steps = re.search(r"^\| accumulators a code \|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert steps is not None
    assert [int(cell) for cell in steps[1].split("|")] == [round(6 * deviation(terms) / 255) for terms in TERMS]


@pytest.mark.parametrize("layers", [4, pytest.param(32, marks=pytest.mark.full)])
@pytest.mark.parametrize("step", [400, 1600])
def test_the_step_decides_and_not_the_number_of_products(step: int, layers: int) -> None:
    few, many = (certified("fbgemm", terms, 31, layers, step=step) for terms in (144, 4608))
    assert few == pytest.approx(many, abs=2 * slack(many, layers))


def test_known_weights_help_where_the_outputs_range_is_that_of_the_sums() -> None:
    whole, known = (certified("fbgemm", 27, 31, 4, step=128 * 27, known_weights=known) for known in (False, True))
    assert known - whole > 0.3
    whole, known = (certified("fbgemm", 144, 31, 4, known_weights=known) for known in (False, True))
    assert 0 <= known - whole < 0.02
