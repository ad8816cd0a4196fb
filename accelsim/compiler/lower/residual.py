"""A residual that is added to a layer's sums before they are rounded: the sums in binary32, then a program of steps."""

from __future__ import annotations

from dataclasses import replace

from accelsim.arithmetic.affine import FLOAT
from accelsim.arithmetic.engines import PT2E
from accelsim.arithmetic.lowered import ResidualSum
from accelsim.arithmetic.vector import Operation, Register, Writer
from accelsim.network import Network, Node, ResidualLayer, Value, rounding, vector_node
from accelsim.network.vector import Vector


def without_residuals(network: Network) -> Network:
    """The network with two nodes for each layer that a residual is added to: its sums, and the rest."""
    values, nodes = dict(network.values), list[Node]()
    for node in network.nodes:
        if not isinstance(node, ResidualLayer) or network.engine != PT2E:
            nodes.append(node)
            continue
        name = f"{node.name}.sums"
        while name in values:
            name += "'"
        shape = values[node.name].shape
        values[name] = Value(name, shape, FLOAT, tuple(range(len(shape))))
        nodes.append(replace(node.layer, name=name, relu=False, float_output=True))
        nodes.append(_rest(node, name, rounding.residual_rounding(network, node)))
    return replace(network, values=values, nodes=tuple(nodes))


def _rest(node: ResidualLayer, sums: str, rule: ResidualSum) -> Vector:
    """`ResidualSum.apply` in steps: residual, addition, the output's scale and zero point, rounding."""
    layer, writer = rule.layer, Writer()
    total, scale = Register(0), float(rule.scale)
    residual = writer.step(Operation.SUBTRACT, Register(1), float(rule.zero_point))
    if rule.fused:
        total = writer.step(Operation.FMA, residual, scale, total)
    else:
        total = writer.step(Operation.ADD, total, writer.step(Operation.MULTIPLY, residual, scale))
    if layer.multiplier is not None:
        total = writer.step(Operation.MULTIPLY, total, float(layer.multiplier[0]))
    if layer.divisor is not None:
        total = writer.step(Operation.DIVIDE, total, float(layer.divisor[0]))
    zero_point = float(layer.zero_point)
    if layer.zero_point_first:
        total, zero_point = writer.step(Operation.ADD, total, zero_point), 0.0
    # A maximum of whole numbers and the rounding may come in either order.
    total = writer.step(Operation.MAXIMUM, total, layer.minimum - zero_point)
    writer.step(Operation.QUANTIZE_CONVERTED, total, 1.0, zero_point)
    return vector_node(node.name, (sums, node.inputs[1]), "residual", writer.program)
