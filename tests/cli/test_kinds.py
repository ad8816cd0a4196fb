"""A saved network is known by what it holds, however the length that it begins with is spelt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from accelsim.cli.kinds import NETWORK, file_kind

from ..report.builders import linear_network
from .calling import call


@pytest.mark.parametrize("start", [b"\x80", b"\x80\x05", b"PK"], ids=["pickle", "pickle 5", "archive"])
def test_a_network_whose_first_bytes_are_those_of_another_format_is_read(start: bytes, tmp_path: Path) -> None:
    path, network = tmp_path / "net", linear_network()
    network.save(path)
    length = int.from_bytes(path.read_bytes()[:8], "little")
    target = int.from_bytes(start, "little")
    more = (target - length) % 256 ** len(start)
    for count in range(more, more + 16):  # the length is rounded up to a multiple of 8
        replace(network, notes=("n" * max(count - 16, 0),)).save(path)
        if path.read_bytes().startswith(start):
            break
    assert path.read_bytes().startswith(start)
    assert file_kind(str(path)) == NETWORK
    assert call("extract", path).status == 0
