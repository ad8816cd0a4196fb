"""What ATen's float operators compute, in the vector unit's steps: each in the order of ATen's own kernel.

One table, filled by the files beside this one. A new operator is one entry there.
"""

from __future__ import annotations

from accelsim.arithmetic.engines import XNNPACK
from accelsim.frontend.builder import Builder, Floats
from accelsim.frontend.calls import Call
from accelsim.frontend.floats import FloatCall

from . import elementwise, norms, products, rows
from .rows import quantized_softmax
from .table import OPERATORS

__all__ = ["compute", "elementwise", "norms", "products", "quantized_softmax", "rows"]


def compute(builder: Builder, call: Call) -> bool:
    """Build the nodes of a call on float tensors; False where there are none for it.

    None of the engine xnnpack: ExecuTorch leaves such calls to other kernels than XNNPACK's, which were not compared.
    """
    from accelsim.frontend.operators import MOVEMENTS, SAME

    if builder.engine == XNNPACK:
        return False
    name = call.operator.removesuffix("_")
    if name in OPERATORS:
        return OPERATORS[name](FloatCall(builder, call))
    if name in MOVEMENTS or name in SAME:
        source = FloatCall(builder, call).source(call.tensors[0])
        return isinstance(source, str) and _moved(builder, call, source)
    return False


def _moved(builder: Builder, call: Call, source: str) -> bool:
    from accelsim.frontend.operators import MOVEMENTS

    tensor = call.tensors[0]
    before = builder.reference(tensor)
    builder.assign(tensor, Floats(source))
    name = call.operator.removesuffix("_")
    if name in MOVEMENTS:
        MOVEMENTS[name](builder, call)
    else:
        builder.move(call, tensor, [(result, ()) for result in call.results])
    if before is not None:
        builder.assign(tensor, before)
    return True
