"""Products of two activations: matrix operations, one for each of the batch, whose weights are a tensor.

The array's weights are int8, so that an operand of uint8 codes first goes through a table that takes 128 off. Its zero
point is the instruction's field. The other operand's zero point times the sum of the weights is no constant here: the
array adds it up in a second pass over the same weights, in which every activation is padding of minus that code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from accelsim.arithmetic.matmul import requantization
from accelsim.compiler.forms import Form, order_of
from accelsim.compiler.operations import Elementwise, Matrix, Piece, Run, TensorWeights, View, Window
from accelsim.network import Matmul

if TYPE_CHECKING:
    from .network import Lowering

#: From uint8 codes to int8 codes of the same order: 128 less.
_LESS_128 = (np.arange(256, dtype=np.uint8) ^ np.uint8(128))[None]

#: A window of one pixel.
_POINT = Window((1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1))


def lower_product(state: Lowering, node: Matmul) -> None:
    """Batches of products of rows and columns; what is broadcast is stepped over with pitches of 0."""
    grid_a, grid_b, out = (state.network.values[name].affine for name in (*node.inputs, node.name))
    target = state.result(node, tuple(range(len(state.network.values[node.name].shape))))
    a, b = (state.forms[name] for name in node.inputs)
    a = a if len(a.shape) > 1 else a.reshaped((1, *a.shape))
    b = b if len(b.shape) > 1 else b.reshaped((*b.shape, 1))
    zero_b = grid_b.zero_point
    if grid_b.dtype == "uint8":
        b, zero_b = _less_128(state, node, b), zero_b - 128
    b = b.simplified()
    if b.strides_as(b.shape) is None:
        b = state.copied(node, b, tuple(range(len(b.shape)))).simplified()
    a = a.simplified()
    strides = a.strides_as(a.shape)
    if strides is None or (a.shape[-1] > 1 and strides[-1] != 1):
        a = state.copied(node, a, tuple(range(len(a.shape)))).simplified()
    rows, length, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = state.broadcast(a, (*batch, rows, length))
    b = state.broadcast(b, (*batch, length, columns))
    target = target.reshaped((*batch, rows, columns)).simplified()
    rule = requantization(grid_a, grid_b, out)
    for place in np.ndindex(*batch):
        at_a, at_b, at_target = (
            form.offset + sum(i * stride for i, stride in zip(place, form.strides, strict=False))
            for form in (a, b, target)
        )
        state.operations.append(
            Matrix(
                layer=state.layer(node.name),
                source=_rows(a, rows, length, at_a),
                target=_rows(target, rows, columns, at_target),
                window=_POINT,
                groups=1,
                weights=TensorWeights(b.tensor, at_b, *b.strides[-2:]),
                weight_zero_points=np.full(columns, zero_b, np.int32),
                rule=rule,
                pad=0,
                signed=grid_a.dtype == "int8",
                zero_source=grid_a.zero_point,
            )
        )


def _rows(form: Form, rows: int, length: int, offset: int) -> View:
    """A matrix as the pixels of one line."""
    return View(form.tensor, (1, 1, 1, rows, length), (0, 0, 0, form.strides[-2]), offset)


def _less_128(state: Lowering, node: Matmul, form: Form) -> Form:
    """The codes less 128, in a tensor of their own."""
    order = order_of(form) if form.is_dense() else tuple(range(len(form.shape)))
    target = state.new_tensor(f"{node.name}.signed", form.shape, order)
    source = form if form.same_order(target) and form.is_dense() else state.copied(node, form, order)
    state.operations.append(
        Elementwise(
            state.layer(node.name),
            ((source.tensor, source.offset),),
            (target.tensor, target.offset),
            form.size,
            (Piece(0, (Run(0, form.size),)),),
            (False,),
            _LESS_128,
        )
    )
    return target
