"""The comparison: PyTorch's outputs of a model beside the network's and the machine's, on inputs that it never saw."""

from __future__ import annotations

import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import ENGINES, PT2E, Case, NoneEmpty, Tensor, engine_set
from torch.utils._pytree import tree_leaves

import accelsim
from accelsim.errors import AccelsimError

#: As many codes and words as the smallest buffers of a machine hold, and less.
MACHINE = accelsim.Accelerator.from_dict(
    {
        "name": "small",
        "mac_array": {"rows": 4, "columns": 4},
        "buffers": {
            "activation": {"bytes": 16384, "banks": 16},
            "weight": {"bytes": 16384, "banks": 16},
            "accumulator": {"bytes": 16384, "banks": 4},
            "parameter": {"bytes": 4096, "banks": 16},
        },
        "dram": {"bytes_per_cycle": 16, "latency": 10},
    }
)
#: Seeds of the inputs on which outputs are compared; the model is recorded with seed 0.
SEEDS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Outcome:
    """`kind`: "right", "refused" (by an AccelsimError of `extract` or `compile`), "wrong" (other outputs, or none),
    "failed" (another exception), or "unusable" (PyTorch itself raises). `reason`: why, and where.
    """

    kind: str
    reason: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether the package is to blame."""
        return self.kind in ("wrong", "failed")


def check(case: Case, *, verified: bool = False, began: Callable[[], None] = lambda: None) -> Outcome:
    """What becomes of a case. With `verified` what was saved must give the same, and `verify` find no differences.

    `began` is called once PyTorch has run the model on all inputs, before the package sees it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad(), engine_set(case.engine), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's, of what is deprecated, and of what does not belong together
            return _check(case, verified, began)
    finally:
        torch.set_num_threads(threads)


def _check(case: Case, verified: bool, began: Callable[[], None]) -> Outcome:
    seeds = (0, *SEEDS)
    try:
        with NoneEmpty():
            model = case.model()
            for seed in seeds:
                model(*case.values(seed))
        first, second, expected, again = case.model(), case.model(), {}, {}
        for seed in seeds:
            expected[seed] = [_plain(leaf) for leaf in tree_leaves(first(*case.values(seed)))]
            again[seed] = [_plain(leaf) for leaf in tree_leaves(second(*case.values(seed)))]
    except Exception as error:
        return Outcome("unusable", f"PyTorch: {type(error).__name__}: {str(error).splitlines()[0:1]}")
    agrees = all(_alike(a, b) for seed in seeds for a, b in zip(expected[seed], again[seed], strict=True))
    began()
    try:
        if agrees:
            return _compare(case, expected, verified)
        _taken(accelsim.extract, case.model(), case.example(), engine=None if case.engine == PT2E else case.engine)
        return Outcome("wrong", "taken, though PyTorch does not agree with itself")
    except _RefusedError as error:
        return Outcome("refused", str(error))
    except AccelsimError as error:
        return Outcome("wrong", f"a network that was taken does not run: {error}")
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome("failed", f"{type(error).__name__}: {error} ({place.name}, {place.filename}:{place.lineno})")


class _RefusedError(Exception):
    """An AccelsimError where one is as good as the right answer."""


def _taken(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except AccelsimError as error:
        raise _RefusedError(str(error)) from error


def _compare(case: Case, expected: dict[int, list[Any]], verified: bool) -> Outcome:
    model, example = case.model(), case.example()
    before = [_plain(tensor.clone()) for tensor in example]
    strides = [tensor.stride() for tensor in example]
    # Whatever engine is in force outside, the one that is named counts.
    exported = case.engine == PT2E
    with engine_set("fbgemm" if exported else ENGINES[ENGINES.index(case.engine) - 1]):
        network = _taken(accelsim.extract, model, example, engine=None if exported else case.engine)
    for seed in SEEDS:
        outcome = _outputs(network.run(case.values(seed)), expected[seed], f"the reference on seed {seed}")
        if outcome is not None:
            return outcome
    program = _taken(accelsim.compile, network, MACHINE, effort=0)
    for seed in SEEDS:
        result = accelsim.simulate(program, case.values(seed))
        outcome = _outputs(result.outputs, expected[seed], f"the machine on seed {seed}")
        if outcome is not None:
            return outcome
    if verified:
        outcome = _kept(network, program, case.values(SEEDS[0]), expected[SEEDS[0]])
        if outcome is not None:
            return outcome
        engine = None if exported else case.engine
        found = accelsim.verify(case.model(), case.values(SEEDS[0]), MACHINE, engine=engine, effort=0)
        if found.mismatches:
            return Outcome("wrong", f"verify finds differences where there are none:\n{found.report()}")
    if not all(map(_alike, before, map(_plain, example))) or strides != [tensor.stride() for tensor in example]:
        return Outcome("wrong", "extract changes the caller's example input")
    return Outcome("right")


def _kept(
    network: accelsim.Network, program: accelsim.Program, x: tuple[Tensor, ...], expected: list[Any]
) -> Outcome | None:
    """What is wrong with the outputs of a saved network, and of a saved program; None if they are right."""
    with tempfile.TemporaryDirectory() as folder:
        network.save(Path(folder) / "network")
        program.save(Path(folder) / "program")
        loaded = accelsim.Network.load(Path(folder) / "network")
        read = accelsim.Program.load(Path(folder) / "program")
    return _outputs(loaded.run(x), expected, "the network as it was saved") or _outputs(
        accelsim.simulate(read, x).outputs, expected, "the program as it was saved"
    )


def _outputs(ours: list[accelsim.Output], theirs: list[Any], where: str) -> Outcome | None:
    """What is wrong with the outputs; None if they are equal in everything that a caller sees."""
    if len(ours) != len(theirs):
        return Outcome("wrong", f"{where}: {len(ours)} outputs, PyTorch {len(theirs)}")
    for position, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        place = f"{where}, output {position}"
        if not isinstance(their, _Plain):
            return Outcome("wrong", f"{place}: PyTorch returns {their!r}")
        codes, real = our.quantized, our.dequantize()
        if their.codes is None and their.real.dtype == codes.dtype:  # torch.export's codes have no scale
            real = codes
        if real.shape != their.real.shape:
            return Outcome("wrong", f"{place}: shape {real.shape}, PyTorch {their.real.shape}")
        if their.codes is not None:
            map_ = (our.scale, our.zero_point, codes.dtype)
            if map_ != (their.scale, their.zero_point, their.codes.dtype):
                return Outcome(
                    "wrong", f"{place}: {map_}, PyTorch {(their.scale, their.zero_point, their.codes.dtype)}"
                )
            if not np.array_equal(codes, their.codes):
                return Outcome("wrong", _difference(place, codes, their.codes))
        if not np.array_equal(real, their.real, equal_nan=True):
            return Outcome("wrong", _difference(f"{place}, dequantised", real, their.real))
    return None


def _difference(place: str, ours: np.ndarray, theirs: np.ndarray) -> str:
    where = np.argwhere(ours != theirs)
    at = tuple(int(index) for index in where[0])
    return f"{place}: {len(where)} of {ours.size} differ; at {at} {theirs[at]} in PyTorch, ours {ours[at]}"


@dataclass(frozen=True)
class _Plain:
    """A tensor's numbers; `codes` is None for one that is not quantised."""

    real: np.ndarray
    codes: np.ndarray | None = None
    scale: float = 0.0
    zero_point: int = 0


def _plain(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    if not leaf.is_quantized:
        leaf = leaf.detach()
        return _Plain((leaf.float() if leaf.dtype == torch.bfloat16 else leaf).numpy().copy())
    real = leaf.dequantize().numpy().copy()
    if leaf.qscheme() not in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return _Plain(real)
    return _Plain(real, leaf.int_repr().numpy().copy(), leaf.q_scale(), leaf.q_zero_point())


def _alike(a: Any, b: Any) -> bool:
    if not isinstance(a, _Plain) or not isinstance(b, _Plain):
        return type(a) is type(b) and (a == b or a != a)
    same = np.array_equal(a.real, b.real, equal_nan=a.real.dtype.kind == "f")
    return same and (a.codes is None or np.array_equal(a.codes, b.codes)) and a.scale == b.scale
