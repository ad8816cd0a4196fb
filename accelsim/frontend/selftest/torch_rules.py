"""The rules of PyTorch's engines beside its kernels: each case is a small model, extracted and run by both.

Weights are small enough for sums that do not saturate.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from accelsim.arithmetic.engines import ENGINES, PT2E
from accelsim.errors import AccelsimError
from accelsim.frontend.extraction import extract
from accelsim.frontend.host import host_kernels
from accelsim.frontend.recording import ENGINE_LOCK, quantized_engine
from accelsim.frontend.reference import record_run
from accelsim.network.reference import bounds_of_values

from . import cases, exported_cases
from .cases import Maker
from .draws import Draw
from .rule import Rule

#: Seeds, and whether scales make ties. An odd seed lays channels last. Twice as many find no more, in twice the time.
_DRAWS = ((0, True), (1, False))


def engines() -> tuple[str, ...]:
    """The engines of this installation's PyTorch whose rules there are."""
    has_onednn = torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qconv2d_pointwise")
    own = [engine for engine in ENGINES if engine in torch.backends.quantized.supported_engines]
    return (*own, *((PT2E,) if has_onednn else ()))


def environment(engine: str) -> dict[str, str]:
    """Whose kernels an engine's rules are compared with: version, and kernel sets."""
    kernels = host_kernels(engine)
    return {"with": f"PyTorch {torch.__version__}", "aten": kernels.aten, "matrix": kernels.matrix}


def rules_of(engine: str) -> Iterator[Rule]:
    """Each rule of an engine, compared."""
    for operator, maker in (exported_cases if engine == PT2E else cases).CASES.items():
        yield _rule(engine, operator, maker)


def _rule(engine: str, operator: str, maker: Maker) -> Rule:
    compared = differing = 0
    refused, absent = "", False
    for seed, ties in _DRAWS:
        with warnings.catch_warnings(), ENGINE_LOCK, quantized_engine(engine):
            warnings.simplefilter("ignore")  # that old quantisation will go
            try:
                model, inputs = maker(Draw(seed, ties))
            except (RuntimeError, AttributeError) as error:
                refused, absent = str(error).strip().partition("\n")[0][:200], True
                continue
        try:
            counts = _compared(engine, model, inputs)
        except AccelsimError as error:
            refused = str(error)
        else:
            compared, differing = compared + counts[0], differing + counts[1]
    return Rule(
        engine=engine, operator=operator, compared=compared, differing=differing, refused=refused, absent=absent
    )


def _compared(engine: str, model: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[int, int]:
    """Codes compared, and those that differ; where functions and sums in binary32 leave a choice, by more than that."""
    network = extract(model, inputs, engine=engine)
    run = record_run(model, inputs, network)
    given = tuple(x.int_repr().numpy() if x.is_quantized else x.numpy() for x in inputs)
    ours, bounds = network.run(given), bounds_of_values(network, network.trace(given))
    compared = differing = 0
    for mine, theirs in zip(ours, run.outputs, strict=True):
        assert theirs is not None
        if mine.quantized.shape != theirs.elements.shape:
            return theirs.elements.size, theirs.elements.size
        compared += theirs.elements.size
        other = mine.quantized != theirs.elements
        differing += int(np.count_nonzero(other & ~bounds[mine.name].hold(theirs.elements)))
    return compared, differing
