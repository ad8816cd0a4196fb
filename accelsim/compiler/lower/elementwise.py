"""Sums, products and lookups as operations over elements that lie one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsim.arithmetic import lanes
from accelsim.compiler.forms import Form, channels_last, order_of
from accelsim.compiler.operations import Elementwise, Piece, Run
from accelsim.network import Add, CodeNode, Lookup, Multiply, rounding

if TYPE_CHECKING:
    from .network import Lowering


def lower_sum(state: Lowering, node: Add | Multiply | CodeNode) -> None:
    """Element-wise work on two values: the result is stored in the order of the first operand that has its shape."""
    network = state.network
    value = network.values[node.name]
    whole = [form for form in (state.forms[name] for name in node.inputs) if form.shape == value.shape]
    target = state.result(node, order_of(whole[0]) if whole else None)
    sources = [state.flat(node, name, target) for name in node.inputs]
    spans: Sequence[lanes.Span[Any]]
    match node:
        case Add():
            spans = rounding.add_spans(network, node)
        case Multiply():
            spans = rounding.product_spans(network, node)
        case CodeNode():
            spans = (lanes.Span(0, value.size, node.rule),)
    state.operations.append(
        Elementwise(
            state.layer(node.name),
            tuple((form.tensor, form.offset) for form in sources),
            (target.tensor, target.offset),
            value.size,
            pieces_of([(span.start, span.stop, span.rule) for span in spans], target, value.order),
            tuple(network.values[name].affine.dtype == "int8" for name in node.inputs),
        )
    )


def lower_lookup(state: Lowering, node: Lookup) -> None:
    """`Lookup`: the result is stored in the order of the operand."""
    value = state.network.values[node.name]
    form = state.forms[node.inputs[0]]
    order = order_of(form) if form.is_dense() else channels_last(len(form.shape))
    target = state.result(node, order)
    source = state.flat(node, node.inputs[0], target)
    state.operations.append(
        Elementwise(
            state.layer(node.name),
            ((source.tensor, source.offset),),
            (target.tensor, target.offset),
            value.size,
            pieces_of(node.spans, target, value.order),
            (False,),
            node.tables,
        )
    )


def pieces_of(spans: Sequence[tuple[int, int, Any]], form: Form, order: Sequence[int]) -> tuple[Piece, ...]:
    """The elements of each rule, from ranges of PyTorch's memory order (`order`) to runs of the stored one.

    The rule of most elements comes first and takes every element where it is cut into several runs; the others, few
    as a rule (the scalar tail of a vector loop), overwrite theirs.
    """
    sizes: dict[int, int] = {}
    rules: dict[int, Any] = {}
    ranges: dict[int, list[tuple[int, int]]] = {}
    for start, stop, rule in spans:
        key = rule if isinstance(rule, int) else id(rule)
        rules[key] = rule
        sizes[key] = sizes.get(key, 0) + stop - start
        ranges.setdefault(key, []).append((start, stop))
    if len(rules) == 1:
        return (Piece(spans[0][2], (Run(0, form.size),)),)
    # Where PyTorch's element i is stored.
    place = (form.addresses() - form.offset).transpose(order).reshape(-1)
    main = max(sizes, key=lambda key: sizes[key])
    pieces = []
    for key in sorted(rules, key=lambda key: key != main):
        taken = np.sort(np.concatenate([place[a:b] for a, b in ranges[key]]))
        runs = _runs(taken)
        if key == main and len(runs) > 1:
            runs = (Run(0, form.size),)
        pieces.append(Piece(rules[key], runs))
    return tuple(pieces)


def _runs(places: np.ndarray) -> tuple[Run, ...]:
    """Sorted places as runs; runs of one length at one distance become lines of one run."""
    edges = np.flatnonzero(np.diff(places) != 1) + 1
    starts = places[np.concatenate([[0], edges])]
    lengths = np.diff(np.concatenate([[0], edges, [len(places)]]))
    runs: list[Run] = []
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        last = runs[-1] if runs else None
        if last is not None and last.length == length:
            pitch = start - (last.start + (last.lines - 1) * last.pitch)
            if last.lines == 1 or pitch == last.pitch:
                runs[-1] = Run(last.start, length, last.lines + 1, pitch)
                continue
        runs.append(Run(start, length))
    return tuple(runs)
