"""What a user hands in becomes codes: floats are quantised, codes are taken as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from accelsim.arithmetic.affine import Affine, Quantization, quantize
from accelsim.errors import InputError
from accelsim.limits import DEFAULT, Limits, over


class Slot(NamedTuple):
    """A declared input."""

    name: str
    shape: tuple[int, ...]
    affine: Affine
    rounding: Quantization = "fused"


def prepare(x: Any, slots: Sequence[Slot], limits: Limits = DEFAULT) -> tuple[list[np.ndarray], int]:
    """Codes (runs, *shape) for each slot, and the number of runs.

    `x`: an array (or what numpy makes one of, or a quantised tensor), a tuple of them for several slots. An array's
    first axis may be a multiple of the slot's: the batch is then cut into that many runs. Raises InputError naming the
    input, what was given and what is expected; an array that repeats what it holds may take the limit of memory.
    """
    given = x if isinstance(x, tuple) else (x,)
    if len(given) != len(slots):
        names = ", ".join(slot.name for slot in slots) or "none"
        raise InputError(f"{len(given)} inputs given, {len(slots)} expected ({names}); pass a tuple with one for each")
    prepared, runs = [], {}
    for part, slot in zip(given, slots, strict=True):
        codes = _codes(part, slot, limits)
        count = _runs(codes.shape, slot)
        runs[slot.name] = count
        prepared.append(codes.reshape(count, *slot.shape))
    if len(set(runs.values())) > 1:
        counts = ", ".join(f"{name}: {count}" for name, count in runs.items())
        raise InputError(f"the inputs hold different numbers of batches ({counts}); give the same for each")
    return prepared, next(iter(runs.values()), 1)


def _codes(part: Any, slot: Slot, limits: Limits) -> np.ndarray:
    if getattr(part, "is_quantized", False):  # PyTorch's quantised tensor, which numpy does not know
        given = (part.q_scale(), part.q_zero_point())
        if given != (slot.affine.scale, slot.affine.zero_point):
            raise InputError(
                f"input {slot.name!r}: quantised with scale {given[0]} and zero point {given[1]}; expected "
                f"{slot.affine.scale} and {slot.affine.zero_point}"
            )
        _runs(tuple(part.shape), slot)
        held = part.untyped_storage().nbytes()
        _check_size(slot, part.numel(), held, limits)
        part = part.int_repr()
    try:
        array = np.asarray(part)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"input {slot.name!r}: no array can be made of it ({error}); detach tensors first") from None
    _runs(array.shape, slot)
    held = array.itemsize + sum((size - 1) * abs(step) for size, step in zip(array.shape, array.strides, strict=True))
    _check_size(slot, array.size, held, limits)
    if array.dtype == slot.affine.dtype:
        return array
    if array.dtype.kind != "f":
        raise InputError(
            f"input {slot.name!r}: dtype {array.dtype}; give real numbers as floats, or codes as {slot.affine.dtype}"
        )
    if np.isnan(array).any() and not slot.affine.is_float:
        raise InputError(f"input {slot.name!r}: holds NaN, which has no code")
    return quantize(array, slot.affine, slot.rounding)


def _check_size(slot: Slot, elements: int, held: int, limits: Limits) -> None:
    """Codes, numbers and what is worked out on the way take about 16 bytes an element."""
    needed, allowed = 16 * elements, limits.memory_for(2 * held)
    if needed > allowed:
        raise InputError(over("memory", needed, allowed, f"input {slot.name!r}: {elements:,} elements"))


def _runs(shape: tuple[int, ...], slot: Slot) -> int:
    if shape == slot.shape:
        return 1
    alike = len(shape) == len(slot.shape) > 0 and shape[1:] == slot.shape[1:]
    if alike and shape[0] and slot.shape[0] and shape[0] % slot.shape[0] == 0:
        return shape[0] // slot.shape[0]
    raise InputError(
        f"input {slot.name!r}: shape {shape}; expected {slot.shape}, or a multiple of it along the first axis"
    )
