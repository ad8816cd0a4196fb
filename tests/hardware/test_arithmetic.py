"""`requant_unit.arithmetic` is a name, or fixed point with the width of its multiplier."""

from __future__ import annotations

from pathlib import Path

import pytest

from accelsim import Accelerator
from accelsim.arithmetic.units import ARITHMETICS
from accelsim.errors import ConfigurationError

EDGE = Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")


@pytest.mark.parametrize("name", ARITHMETICS)
def test_every_arithmetic_has_a_name_that_survives_a_round_trip(name: str) -> None:
    changed = EDGE.replace(**{"requant_unit.arithmetic": name})
    assert changed.requant_unit.arithmetic.name == name
    assert changed.requant_unit.arithmetic.multiplier_bits == (31 if name == "fixed_point" else None)
    assert Accelerator.from_dict(changed.to_dict()) == changed


def test_fixed_point_takes_a_width() -> None:
    changed = EDGE.replace(**{"requant_unit.arithmetic": {"fixed_point": {"multiplier_bits": 16}}})
    assert changed.requant_unit.arithmetic.multiplier_bits == 16
    assert changed.to_dict()["requant_unit"]["arithmetic"] == {"fixed_point": {"multiplier_bits": 16}}
    narrower = changed.replace(**{"requant_unit.arithmetic.fixed_point.multiplier_bits": 8})
    assert narrower.requant_unit.arithmetic.multiplier_bits == 8


@pytest.mark.parametrize(
    "value",
    [None, 31, {}, {"fixed_point": {}}, {"fixed_point": 31}, {"fixed_point": {"bits": 3}}, {"textbook": {}}]
    + [{"fixed_point": {"multiplier_bits": bits}} for bits in (0, 32, "16", 16.5)],
)
def test_anything_else_is_refused_with_what_is_allowed(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"requant_unit\.arithmetic"):
        EDGE.replace(**{"requant_unit.arithmetic": value})
