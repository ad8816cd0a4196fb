"""The sums of a MAC instruction: exact integers, through binary32 matrix products that never have to round.

Integers up to 2**24 are exact in binary32, and so is every sum of them, in any order, whose terms' magnitudes add up to
no more than that. A reduction whose terms may add up to more is cut into parts that keep to it, which are added as
integers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from accelsim.isa import Mac, Memory
from accelsim.isa.fields import layout
from accelsim.isa.instructions.window import Tap, WindowInstruction
from accelsim.machine.memory.operands import Operands

_EXACT = 1 << 24  # binary32 holds every integer up to here
_INT32 = 1 << 31

#: Gives the sums (1 or runs, pixels, outputs): integers, in whatever dtype holds them.
Product = Callable[[], np.ndarray]


def largest_sum(mac: Mac) -> int:
    """A bound of the magnitude of an instruction's sums, whatever the data; what the accumulators held left out."""
    return mac.reduction * _largest_code(mac) * _largest_weight(mac)


def _largest_code(mac: Mac) -> int:
    return max(128 if mac.signed_activation else 255, abs(mac.pad))


def _largest_weight(mac: Mac) -> int:
    return max(127 - mac.weight_zero_point, 128 + mac.weight_zero_point)


def mac_sums(mac: Mac, activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sums of an instruction, without what the accumulators held: (runs, pixels, outputs).

    `activations`: (1 or runs, bytes), the activation memory; `weights`: int8 (1 or runs, reduction, outputs).
    """
    return product(mac, activations, weights, Operands())()


def product(mac: Mac, activations: np.ndarray, weights: np.ndarray, operands: Operands) -> Product:
    """Computes `mac_sums` of what the two views hold when it is called; the next product may write over the result.

    `operands` are those of the same memories.
    """
    codes = activations.view(np.int8) if mac.signed_activation else activations
    if len(weights) == 1:
        return _product(mac, codes, weights[0], operands, None)
    each = [
        _product(mac, codes[run : run + 1] if len(codes) > 1 else codes, weights[run], operands, run)
        for run in range(len(weights))
    ]
    return lambda: np.concatenate([one().astype(np.int64) for one in each])


def gathered_elements(mac: Mac) -> int:
    """Elements of the left operand of one run."""
    return mac.pixels * mac.taps * mac.channels


def _product(mac: Mac, codes: np.ndarray, weights: np.ndarray, operands: Operands, run: int | None) -> Product:
    """The same for one matrix of weights: those of `run`, or of all runs."""
    if mac.channels == mac.groups:
        return _depthwise(mac, codes, tuple(mac.inside_taps()), weights)
    return _dense(mac, codes, weights, operands, run)


def _hull(mac: Mac) -> slice:
    """All places between the first and the last one that the window touches; none if it is all padding."""
    touched = [region for region in mac.reads() if region.memory == Memory.ACTIVATION]
    return slice(min((r.start for r in touched), default=0), max((r.stop for r in touched), default=0))


def _magnitude(codes: np.ndarray) -> int:
    return max(abs(int(codes.min())), abs(int(codes.max()))) if codes.size else 0


def _dense(
    mac: Mac,
    codes: np.ndarray,
    weights: np.ndarray,
    operands: Operands,
    run: int | None,
) -> Product:
    """One matrix product for each group, or several where its sums may leave binary32."""
    runs, groups, rows = len(codes), mac.groups, len(codes) * mac.pixels
    hull = _hull(mac)
    key = (run, runs, mac.pad, groups, *(getattr(mac, name) for name in _window_fields()))
    gathered, _, ready = operands.find(key, Memory.ACTIVATION, hull.start, hull.stop, runs * gathered_elements(mac))
    gather = None if ready else _gather(mac, codes, tuple(mac.inside_taps()), gathered)
    left = gathered.reshape(groups, rows, mac.reduction)

    block = mac.weight_block()
    key = (run, block, mac.weight_zero_point, groups)
    matrix, heaviest, ready = operands.find(key, Memory.WEIGHT, block.start, block.stop, weights.size)
    right = matrix.reshape(groups, mac.reduction, mac.outputs // groups)
    convert = None if ready else _convert(mac, weights, right, heaviest)

    total = operands.scratch(rows * mac.outputs).reshape(groups, rows, mac.outputs // groups)
    code, wide = _largest_code(mac), np.int32 if largest_sum(mac) < _INT32 else np.int64
    always = largest_sum(mac) <= _EXACT

    def compute() -> np.ndarray:
        if gather is not None:
            gather()
        if convert is not None:
            convert()
        # The magnitudes of a sum's terms add up to no more than the largest code times those of one column.
        exact = always or heaviest[0] * code <= _EXACT or heaviest[0] * largest_code() <= _EXACT
        if not exact:
            parts = in_parts()
        elif groups == 1:
            return np.dot(left[0], right[0], out=total[0]).reshape(runs, mac.pixels, mac.outputs)
        else:
            parts = np.matmul(left, right, out=total)
        return parts.transpose(1, 0, 2).reshape(runs, mac.pixels, mac.outputs)

    def largest_code() -> int:
        return max(abs(mac.pad), _magnitude(codes[:, hull]))

    def in_parts() -> np.ndarray:
        length = max(1, _EXACT // max(1, largest_code() * _magnitude(right)))
        added = np.zeros(total.shape, wide)
        for start in range(0, mac.reduction, length):
            part = slice(start, start + length)
            added += (left[:, :, part] @ right[:, part]).astype(wide)
        return added

    return compute


@cache
def _window_fields() -> tuple[str, ...]:
    return tuple(item.name for item in layout(WindowInstruction))


def _convert(
    mac: Mac, weights: np.ndarray, matrix: NDArray[np.float32], heaviest: NDArray[np.float64]
) -> Callable[[], None]:
    """Fills `matrix` (groups, reduction, outputs of a group), and `heaviest` with the largest sum of the magnitudes of
    a column's weights."""
    source = weights.reshape(mac.reduction, mac.groups, mac.outputs // mac.groups).transpose(1, 0, 2)
    zero_point = np.float32(mac.weight_zero_point)
    # Where these sums could round in turn, the columns' lengths bound them.
    length = mac.reduction * _largest_weight(mac)
    measured = largest_sum(mac) > _EXACT >= length
    ones = np.ones(mac.reduction, np.float32)

    def run() -> None:
        np.copyto(matrix, source)
        if mac.weight_zero_point:
            np.subtract(matrix, zero_point, out=matrix)
        heaviest[0] = (ones @ np.abs(matrix)).max() if measured else length

    return run


def _gather(mac: Mac, codes: np.ndarray, every: tuple[Tap, ...], buffer: NDArray[np.float32]) -> Callable[[], None]:
    """Fills the left operand (groups, runs, images, lines, pixels, taps down, taps across, channels of a group)."""
    runs, groups = len(codes), mac.groups
    each = mac.channels // groups
    shape = (groups, runs, mac.images, mac.out_height, mac.out_width, mac.kernel_height, mac.kernel_width, each)
    whole = slice(0, mac.out_height), slice(0, mac.out_width)
    padded = len(every) < mac.taps or any((tap.down, tap.across) != whole for tap in every)
    result = buffer.reshape(shape)
    pairs = []
    for tap in every:
        source = tap.block.view(codes)
        grouped = source.reshape(*source.shape[:-1], groups, each).transpose(4, 0, 1, 2, 3, 5)
        pairs.append((result[:, :, :, tap.down, tap.across, tap.ky, tap.kx], grouped))

    def run() -> None:
        if padded:
            buffer.fill(mac.pad)
        for target, source in pairs:
            np.copyto(target, source)

    return run


def _depthwise(mac: Mac, codes: np.ndarray, every: tuple[Tap, ...], weights: np.ndarray) -> Product:
    """One channel a group, tap by tap: padding everywhere, then code - padding inside."""
    bound = mac.taps * _largest_weight(mac) * (_largest_code(mac) + 2 * abs(mac.pad))
    dtype: type[np.float32] | type[np.float64] = np.float32 if bound <= _EXACT else np.float64
    outputs = (mac.groups, mac.outputs // mac.groups)
    shape = (len(codes), mac.images, mac.out_height, mac.out_width, *outputs)
    sources = [(tap, tap.block.view(codes)) for tap in every]

    def run() -> np.ndarray:
        kernel = (np.subtract(weights, mac.weight_zero_point, dtype=dtype)).reshape(mac.taps, *outputs)
        total = np.empty(shape, dtype)
        total[...] = mac.pad * kernel.sum(axis=0)
        for tap, source in sources:
            inside = np.subtract(source, mac.pad, dtype=dtype)
            total[:, :, tap.down, tap.across] += inside[..., None] * kernel[tap.ky * mac.kernel_width + tap.kx]
        return total.reshape(len(codes), mac.pixels, mac.outputs)

    return run
