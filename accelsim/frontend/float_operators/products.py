"""Products of matrices, element by element and summed up, and the attention that is made of two."""

from __future__ import annotations

import math

import numpy as np

from accelsim.arithmetic.vector import Statistic
from accelsim.frontend.builder import permute
from accelsim.frontend.floats import FloatCall
from accelsim.network.vector import EXP_U20

from .rows import powers
from .steps import added, divided, multiplied
from .table import operator


def _product(call: FloatCall, a: str, b: str) -> str:
    """a (..., M, K) times b (..., K, N): (..., M, N)."""
    rank = len(call.shape(b))
    move = permute(call.shape(b), (*range(rank - 2), rank - 1, rank - 2))
    builder = call.builder
    turned = move.node(builder.unused(call.call, "transposed"), (b,))
    return _of_rows(call, a, builder.internal(turned, move.shape, builder.value(b).affine))


def _of_rows(call: FloatCall, a: str, b: str) -> str:
    """Each row of a (..., M, K) times each row of b (..., N, K): (..., M, N)."""
    (*lead, rows, length), (*others, columns, _) = call.shape(a), call.shape(b)
    left = call.reshaped(a, (*lead, rows, 1, length))
    right = call.reshaped(b, (*others, 1, columns, length))
    summed = call.internal("products", [left, right], multiplied, statistic=Statistic.SUM, axes=(-1,))
    return call.reshaped(summed, call.shape(summed)[:-1])


@operator("mm", "bmm", "matmul")
def _(call: FloatCall) -> bool:
    a, b = (call.source(operand) for operand in call.call.args[:2])
    if not isinstance(a, str) or not isinstance(b, str) or min(len(call.shape(a)), len(call.shape(b))) < 2:
        return False
    call.as_result(_product(call, a, b))
    return True


@operator("addmm")
def _(call: FloatCall) -> bool:
    bias, a, b = (call.source(operand) for operand in call.call.args[:3])
    if not isinstance(a, str) or not isinstance(b, str) or not isinstance(bias, str):
        return False
    if call.argument("beta", 1) != 1 or call.argument("alpha", 1) != 1:
        return False
    return call.finish("addmm", [_product(call, a, b), bias], added)


@operator("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_attention_math")
def _(call: FloatCall) -> bool:
    query, key, value = (call.source(operand) for operand in call.call.args[:3])
    if not (isinstance(query, str) and isinstance(key, str) and isinstance(value, str)):
        return False
    if call.argument("dropout_p", 0.0):
        return False
    length, depth = call.shape(query)[-2:]
    factor = call.argument("scale")
    factor = 1 / math.sqrt(depth) if factor is None else float(factor)
    scores = _of_rows(call, query, key)
    if factor != 1.0:
        scores = call.internal("scaled", [scores, factor], multiplied)
    mask = call.argument("attn_mask")
    hidden = call.source(mask) if mask is not None else None
    if call.argument("is_causal"):
        after = np.full((length, call.shape(key)[-2]), -np.inf, np.float32)
        hidden = call.constant(np.triu(after, 1))
    elif mask is not None and not isinstance(hidden, str):
        return False
    if isinstance(hidden, str):
        scores = call.internal("masked", [scores, hidden], added)
    fast = EXP_U20 if "flash" in call.call.operator else "exp"
    made, summed = powers(call, scores, (len(call.shape(scores)) - 1,), fast)
    return call.finish("attention", [_product(call, made, value), summed], divided)
