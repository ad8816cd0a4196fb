"""Loads and stores: rows of bytes between DRAM and the scratchpads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from accelsim.isa import Instruction, Load, Store
from accelsim.isa.instructions.transfer import TransferInstruction
from accelsim.machine.dram.bus import Rows
from accelsim.machine.semantics import Semantics, Work, each_place_once


def _copy(transfer: TransferInstruction, work: Work) -> None:
    (source,), (target,) = transfer.read_blocks(), transfer.written_blocks()
    values = work.memories[source.memory].read(source, work.actions)
    work.actions.append(partial(np.copyto, work.memories.target(target, len(values)), values))


def _host_cost(transfer: TransferInstruction) -> tuple[int, int]:
    return 0, transfer.bytes


def _rows(transfer: TransferInstruction) -> Rows:
    return transfer.dram, transfer.length, transfer.loops


_TRANSFER = Semantics(traffic=each_place_once, bind=_copy, host_cost=_host_cost, rows=_rows)
SEMANTICS: Mapping[type[Instruction], Semantics] = {Load: _TRANSFER, Store: _TRANSFER}
