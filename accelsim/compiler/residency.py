"""Pass `place`: which stored tensors stay in the activation buffer from the operation that writes them to the last that
reads them, and where. The others live in DRAM and pass through the rest of the buffer tile by tile."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from .layout import Layout
from .operations import Copy, Elementwise, Lowered, Matrix, MatrixProduct, Operation, Pool, sources_of, target_of

#: Output positions of a tile that keep an array busy while the weights of the next fold come in.
_POSITIONS = 64


@dataclass(frozen=True)
class Placement:
    """`addresses` of resident tensors in the activation buffer; operation i has `staging[i]` = (start, stop) free.

    `layouts` of those that do not lie dense.
    """

    addresses: Mapping[str, int]
    layouts: Mapping[str, Layout]
    staging: tuple[tuple[int, int], ...]

    def laid_out(self, operation: Matrix) -> Matrix:
        """The operation with the views of what does not lie dense as it lies."""
        source, target = (
            self.layouts[view.tensor].view(view) if view.tensor in self.layouts else view
            for view in (operation.source, operation.target)
        )
        return replace(operation, source=source, target=target)


@dataclass(frozen=True)
class _Life:
    """A tensor's bytes from the first operation that writes it to the last that uses it."""

    tensor: str
    first: int
    last: int
    uses: int


def place(lowered: Lowered, capacity: int, layouts: Mapping[str, Layout], streamed: Collection[str] = ()) -> Placement:
    """Greedy by bytes of DRAM traffic saved; a tensor stays if every operation meanwhile keeps room for its tiles.

    A tensor lies as one of the `layouts` says where there is one for it and room for that. Those `streamed` live in
    DRAM whatever room there is.
    """
    sizes = dict(lowered.tensors)
    for tensor, layout in layouts.items():
        sizes[tensor] = layout.size(lowered.tensors[tensor])
    fixed = {lowered.forms[name].tensor for name in (*lowered.inputs, *lowered.outputs)} | set(streamed)
    # The weight buffer is filled from DRAM alone.
    fixed |= {operation.weights.tensor for operation in lowered.operations if isinstance(operation, MatrixProduct)}
    lives = [life for life in _lives(lowered) if life.tensor not in fixed]
    users = [{target_of(op), *sources_of(op)} for op in lowered.operations]
    placed: list[tuple[_Life, int]] = []
    resident: set[str] = set()
    tops = [0] * len(lowered.operations)
    for life in sorted(lives, key=lambda item: (-lowered.tensors[item.tensor] * item.uses, item.first)):
        meanwhile = range(life.first, life.last + 1)
        resident.add(life.tensor)
        for size in sorted({sizes[life.tensor], lowered.tensors[life.tensor]}, reverse=True):
            address = _first_fit(placed, life, size, sizes)
            if all(
                max(tops[i], address + size) + _room(lowered.operations[i], users[i] - resident) <= capacity
                for i in meanwhile
            ):
                break
        else:
            resident.discard(life.tensor)
            continue
        sizes[life.tensor] = size
        placed.append((life, address))
        for i in meanwhile:
            tops[i] = max(tops[i], address + size)
    return Placement(
        {life.tensor: address for life, address in placed},
        {
            tensor: layout
            for tensor, layout in layouts.items()
            if tensor in resident and sizes[tensor] > lowered.tensors[tensor]
        },
        tuple((top, capacity) for top in tops),
    )


def _lives(lowered: Lowered) -> list[_Life]:
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    uses: dict[str, int] = {}
    for index, operation in enumerate(lowered.operations):
        for tensor in (target_of(operation), *sources_of(operation)):
            first.setdefault(tensor, index)
            last[tensor] = index
            uses[tensor] = uses.get(tensor, 0) + 1
    return [_Life(tensor, first[tensor], last[tensor], uses[tensor]) for tensor in first]


def _first_fit(placed: list[tuple[_Life, int]], life: _Life, size: int, sizes: Mapping[str, int]) -> int:
    """The lowest address at which the tensor meets none that is alive at the same time."""
    taken = sorted(
        (address, address + sizes[other.tensor])
        for other, address in placed
        if other.first <= life.last and life.first <= other.last
    )
    at = 0
    for start, stop in taken:
        if at + size <= start:
            break
        at = max(at, stop)
    return at


def _room(operation: Operation, streamed: set[str]) -> int:
    """Bytes for two tiles of a line or so of every operand that passes through the buffer."""
    match operation:
        case Matrix() | Pool():
            room = 0
            if operation.source.tensor in streamed:
                _, _, _, width, channels = operation.source.sizes
                room += 2 * _lines(operation) * width * channels
            if operation.target.tensor in streamed:
                _, _, _, width, channels = operation.target.sizes
                room += 2 * width * channels
            return room
        case MatrixProduct():
            row = operation.source.shape[-1] * (operation.source.tensor in streamed)
            return 2 * (row + operation.target.shape[-1] * (operation.target.tensor in streamed))
        case Elementwise():
            operands = [tensor for tensor, _ in operation.sources] + [operation.target[0]]
            return 2 * min(operation.size, 1024) * sum(tensor in streamed for tensor in operands)
        case Copy():
            both = {operation.source[0], operation.target[0]} <= streamed
            return min(operation.size, 1024) if both else 0


def _lines(operation: Matrix | Pool) -> int:
    """Input lines under a tile of outputs, no more than there are."""
    if isinstance(operation, Matrix):
        _, _, lines, width, _ = operation.target.sizes
        tile = min(lines, -(-_POSITIONS // width))
        window = operation.window
        span = (tile - 1) * window.stride[1] + (window.kernel[1] - 1) * window.dilation[1] + 1
    else:
        span = max((part.kernel[0] - 1) * part.dilation[0] + 1 for part in operation.parts)
    return min(span, operation.source.sizes[2])
