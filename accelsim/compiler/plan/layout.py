"""Pass `lay out`: which resident tensors have gaps between their pixels and lines, so that what a vector takes of
neighbouring pixels lies in different banks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from accelsim.compiler.operations import (
    Elementwise,
    Lowered,
    Matrix,
    Operation,
    Pool,
    Run,
    View,
    sources_of,
    target_of,
)
from accelsim.hardware import Accelerator
from accelsim.isa import INSTRUCTION_BYTES
from accelsim.machine.post.timing import vectors

from .mapping import Mapping as Mapped
from .mapping import mappings
from .shape import Shape


@dataclass(frozen=True)
class Layout:
    """A dense tensor of lines of `pixels` of `channels` bytes each, with `pixel_pitch` bytes from one pixel to the next
    and `line_pitch` from one line to the next instead."""

    pixels: int
    channels: int
    pixel_pitch: int
    line_pitch: int

    @property
    def line(self) -> int:
        """Bytes of a dense line."""
        return self.pixels * self.channels

    @property
    def rows_of(self) -> tuple[int, int]:
        """Elements of a dense line, and how many of them lie side by side."""
        return self.line, self.line if self.pixel_pitch == self.channels else self.channels

    def rows(self, run: Run) -> Iterator[Run]:
        """The elements of a run, in rows that lie side by side and at one pitch."""
        # Rows of a pixel do not go on from line to line where these have a padding of their own.
        length = self.rows_of[1]
        cut = length < self.line and self.line_pitch != self.pixels * self.pixel_pitch
        for line in range(run.lines):
            start = run.start + line * run.pitch
            stop = start + run.length
            borders = range((start // self.line + 1) * self.line, stop, self.line) if cut else ()
            for first, last in itertools.pairwise([start, *borders, stop]):
                yield from _rows(first, last, length)

    def size(self, dense: int) -> int:
        """Bytes of a tensor that has so many when it lies dense."""
        return dense // self.line * self.line_pitch

    def place(self, offset: int) -> int:
        """Where the byte lies that is number `offset` of the dense tensor."""
        lines, rest = divmod(offset, self.line)
        pixels, channel = divmod(rest, self.channels)
        return lines * self.line_pitch + pixels * self.pixel_pitch + channel

    def pitches(self, sizes: Sequence[int], strides: Sequence[int], offset: int = 0) -> tuple[int, ...] | None:
        """What the strides of the dense tensor become, or None where steps along an axis would not all be alike."""
        channel, pixel, line = offset % self.channels, offset % self.line // self.channels, 0
        for size, stride in zip(sizes, strides, strict=True):
            reach = (size - 1) * stride
            if stride % self.line == 0:
                line += reach
            elif stride % self.channels == 0:
                pixel += reach // self.channels
            else:
                channel += reach
        if channel >= self.channels or pixel >= self.pixels:
            return None
        return tuple(self.place(stride) for stride in strides)

    def view(self, view: View) -> View:
        """The same elements of a tensor that lies so. The view must be one that `pitches` has an answer for."""
        pitches = self.pitches(view.sizes, (*view.pitches, 1), view.offset)
        assert pitches is not None
        image, depth, line, pixel, _ = pitches
        return replace(view, pitches=(image, depth, line, pixel), offset=self.place(view.offset))


def _rows(start: int, stop: int, size: int) -> Iterator[Run]:
    """The elements start..stop - 1 in rows that end where a multiple of `size` is."""
    head, tail = min(-(-start // size) * size, stop), max(stop // size * size, start)
    if start < head:
        yield Run(start, head - start)
    if head < tail:
        yield Run(head, size, (tail - head) // size, size)
    if max(head, tail) < stop:
        yield Run(max(head, tail), stop - max(head, tail))


def layouts(lowered: Lowered, accelerator: Accelerator) -> Mapping[str, Layout]:
    """The layouts of the tensors that a convolution reads faster so.

    Matrix operations and pools read and write them as they lie. Element-wise work on the whole of a tensor goes row by
    row, if all its operands that do not lie dense have gaps between the same lines, or the same pixels.
    """
    views: dict[str, list[View]] = {}
    works: list[Elementwise] = []
    dense: set[str] = set()
    for operation in lowered.operations:
        if isinstance(operation, Matrix | Pool):
            for view in (operation.source, operation.target):
                views.setdefault(view.tensor, []).append(view)
        elif isinstance(operation, Elementwise) and _whole(operation, lowered):
            works.append(operation)
        else:
            dense |= _tensors(operation)
    found: dict[str, Layout] = {}
    for operation in lowered.operations:
        if not isinstance(operation, Matrix) or operation.source.tensor in dense:
            continue
        tensor = operation.source.tensor
        layout = _layout(operation, accelerator, [work for work in works if tensor in _tensors(work)])
        if not layout.line or layout.place(layout.line) == layout.line or lowered.tensors[tensor] % layout.line:
            continue
        if all(layout.pitches(view.sizes, (*view.pitches, 1), view.offset) is not None for view in views[tensor]):
            found.setdefault(tensor, layout)
    for work in works:
        tensors = _tensors(work)
        if len({found[tensor].rows_of for tensor in tensors & found.keys()}) > 1:
            found = {tensor: layout for tensor, layout in found.items() if tensor not in tensors}
    return found


def _tensors(operation: Operation) -> set[str]:
    return {target_of(operation), *sources_of(operation)}


def _whole(operation: Elementwise, lowered: Lowered) -> bool:
    """Whether element-wise work takes all of its operands."""
    operands = (*operation.sources, operation.target)
    return all(not offset and lowered.tensors[tensor] == operation.size for tensor, offset in operands)


def _layout(operation: Matrix, accelerator: Accelerator, works: Sequence[Elementwise]) -> Layout:
    """What the fastest mapping of a convolution would have its input lie like, what it costs the element-wise `works`
    on that counted in; dense where that is as fast."""
    shape = Shape.of(operation, accelerator)
    images, depth, height, pixels, channels = operation.source.sizes
    lines = shape.images * shape.out_depth * shape.out_lines

    def mapping(pitches: tuple[int, int] | None) -> Mapped:
        work = shape.work(lines, shape.out_pixels, shape.group_channels, shape.outputs, shape.groups, pitches)
        return mappings(accelerator, work)[-1]

    def cycles(layout: Layout) -> float:
        # In as many instructions as there are lines, which come through the bus.
        added = 0.0
        for work in works:
            operands = len(work.sources) + 1
            rows = layout.line // layout.rows_of[1]
            one = vectors(rows, layout.rows_of[1], operands, accelerator).stream
            dense = vectors(1, work.size, operands, accelerator).stream
            code = 0 if rows == 1 else images * depth * height * INSTRUCTION_BYTES // accelerator.dram_bytes_per_cycle
            added += max(images * depth * height * one - dense, code)
        return mapping((layout.line_pitch, layout.pixel_pitch)).cycles + added

    best = mapping(None)
    reads = shape.group_channels, best.unroll_pixels, best.unroll_groups
    ways = [(channels, pixels * channels), (channels, shape.line_pitch(pixels, channels, *reads))]
    ways.append(shape.pitches(channels, pixels, *reads))
    return min((Layout(pixels, channels, *way) for way in ways), key=cycles)
