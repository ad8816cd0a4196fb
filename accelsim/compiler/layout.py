"""Pass `lay out`: which resident tensors have gaps between their pixels and lines, so that what a vector takes of
neighbouring pixels lies in different banks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from accelsim.hardware import Accelerator

from .mapping import mappings
from .operations import Lowered, Matrix, View, sources_of, target_of
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


def layouts(lowered: Lowered, accelerator: Accelerator) -> Mapping[str, Layout]:
    """The layouts of the tensors that a grouped convolution reads and that only matrix operations touch."""
    views: dict[str, list[View]] = {}
    others: set[str] = set()
    for operation in lowered.operations:
        if isinstance(operation, Matrix):
            for view in (operation.source, operation.target):
                views.setdefault(view.tensor, []).append(view)
        else:
            others.update((target_of(operation), *sources_of(operation)))
    found: dict[str, Layout] = {}
    for operation in lowered.operations:
        if not isinstance(operation, Matrix) or operation.groups == 1 or operation.source.tensor in others:
            continue
        source = operation.source
        layout = _layout(operation, accelerator)
        regular = layout.line > 0 and lowered.tensors[source.tensor] % layout.line == 0
        if regular and (layout.pixel_pitch, layout.line_pitch) != (layout.channels, layout.line):
            every = views[source.tensor]
            if all(layout.pitches(view.sizes, (*view.pitches, 1), view.offset) is not None for view in every):
                found.setdefault(source.tensor, layout)
    return found


def _layout(operation: Matrix, accelerator: Accelerator) -> Layout:
    """What the fastest mapping of a grouped convolution would have its input lie like."""
    shape = Shape.of(operation, accelerator)
    _, _, _, pixels, channels = operation.source.sizes
    lines = shape.images * shape.out_depth * shape.out_lines
    work = shape.work(lines, shape.out_pixels, shape.group_channels, shape.outputs, shape.groups, None)
    best = mappings(accelerator, work)[-1]
    pitch = shape.pixel_pitch(channels, shape.group_channels, best.abreast, best.side)
    return Layout(pixels, channels, pitch, shape.line_pitch(pixels, pitch, best.abreast))
