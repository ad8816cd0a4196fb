"""From the nodes of an ONNX graph to those of a network: what each tensor stands for, and what is made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from accelsim.arithmetic import onnxruntime
from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import ONNXRUNTIME, KernelSet
from accelsim.arithmetic.onnxruntime import AddForm
from accelsim.errors import ModelError
from accelsim.escaping import printable
from accelsim.network import Lookup, Network, Node, Value

from .container import MOST_AXES, MOST_ELEMENTS, Call, Graph
from .references import Codes, Constant, GraphInput, Move, Parameter, Pending, Real, Reference, Shape

#: One rule holds for every element, and sums of products are exact.
KERNELS = KernelSet("uniform", "vnni")

#: Why ONNX Runtime computes a node in float whose codes are int8.
MIXED = (
    "its activations are int8, and some of them have several readers, or are inputs or outputs of the graph; quantise "
    "activations to uint8"
)

#: Over these operators ONNX Runtime carries a DequantizeLinear down and a QuantizeLinear up (`qdq_propagation.cc`).
_CARRIED = frozenset({"MaxPool", "Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze", "Identity"})

DETACHED = (
    "something else than a Reshape, Transpose, Slice, Squeeze, Unsqueeze or MaxPool stands between it and the nearest "
    "QuantizeLinear or DequantizeLinear"
)

#: Runs of elements that one lookup may have, where its table depends on the place.
_MOST_RUNS = 1 << 16


class Builder:
    """Collects nodes and values while the nodes of a graph are gone through in order. `shapes`: the inputs'."""

    def __init__(self, graph: Graph, shapes: Sequence[Shape]) -> None:
        self.graph, self._shapes = graph, tuple(shapes)
        self.values: dict[str, Value] = {}
        self.nodes: list[Node] = []
        self.inputs: dict[int, str] = {}
        #: Layers that ONNX Runtime computes in float, by the reason.
        self.in_float: dict[str, list[str]] = {}
        self._references: dict[str, Reference] = {name: Constant(array) for name, array in graph.constants.items()}
        for position, (item, shape) in enumerate(zip(graph.inputs, shapes, strict=True)):
            self._references[item.name] = GraphInput(position, shape)
        self._readers: dict[str, list[Call]] = {}
        self._makers = {name: call for call in graph.calls for name in call.outputs}
        for call in graph.calls:
            for name in call.inputs:
                self._readers.setdefault(name, []).append(call)

    # What tensors stand for

    def reference(self, call: Call, place: int) -> Reference | None:
        """What operand number `place` stands for; None if it is left out."""
        if place >= len(call.inputs) or not call.inputs[place]:
            return None
        return self._references[call.inputs[place]]

    def assign(self, call: Call, reference: Reference, which: int = 0) -> None:
        """The call's result number `which` stands for `reference`."""
        if which < len(call.outputs) and call.outputs[which]:
            self._references[call.outputs[which]] = reference

    def result(self, call: Call) -> Reference:
        """What the call's first result stands for."""
        return self._references[call.outputs[0]]

    def readers(self, tensor: str) -> list[Call]:
        """The nodes that read a tensor."""
        return self._readers.get(tensor, [])

    def is_pair(self, tensor: str) -> bool:
        """Whether a dequantised tensor has one reader, and its codes one reader too and a QuantizeLinear as maker."""
        made_by = self._makers.get(tensor)
        if made_by is None or made_by.operator != "DequantizeLinear" or len(self._readers.get(tensor, [])) != 1:
            return False
        quantize = self._makers.get(made_by.inputs[0])
        return quantize is not None and quantize.operator == "QuantizeLinear" and self.is_read_once(made_by.inputs[0])

    def form(self, call: Call, source: str) -> AddForm:
        """How ONNX Runtime takes int8 codes: it makes uint8 of them where every tensor of a node is in a pair of
        QuantizeLinear and DequantizeLinear that nothing else reads ("unsigned"); where some are, the node is "float".
        """
        operands = [self._references[name] for name in call.inputs if name]
        if any(isinstance(operand, Real) and operand.detached for operand in operands):
            if call.operator != "Add":  # whose float form is exact
                self.computed_in_float(call.name, DETACHED)
            return "float"
        if self.values[source].affine.dtype != "int8":
            return "codes"
        # Weights have a say of their own; a constant that is added is no pair.
        tensors = call.inputs if call.operator in ("Add", "Mul") else call.inputs[:1]
        pairs = {*map(self.is_pair, tensors), self.is_quantized_once(call.outputs[0])}
        return "float" if len(pairs) > 1 else "unsigned" if pairs == {True} else "codes"

    def is_quantized_once(self, tensor: str) -> bool:
        """Whether all that is done to a real tensor is to quantise it for one DequantizeLinear."""
        readers = self.readers(tensor)
        if len(readers) == 1 and readers[0].operator in ("Relu", "Clip"):
            return self.is_quantized_once(readers[0].outputs[0])
        return (
            len(readers) == 1 and readers[0].operator == "QuantizeLinear" and self.is_read_once(readers[0].outputs[0])
        )

    def is_read_once(self, codes: str) -> bool:
        """Whether codes have one reader and are no output of the graph."""
        return len(self._readers.get(codes, [])) == 1 and codes not in self.graph.outputs

    def constant(self, call: Call, place: int) -> np.ndarray | None:
        """The array that an operand stands for; None if it is left out. Raises ModelError for what is none."""
        reference = self.reference(call, place)
        if reference is None:
            return None
        if not isinstance(reference, Constant):
            raise ModelError(f"{call.where}: operand {call.inputs[place]!r} depends on the inputs; it must be constant")
        return reference.array

    def shape_of(self, reference: Reference) -> Shape:
        """The shape of a tensor."""
        match reference:
            case Codes() | Real():
                return self.values[reference.name].shape
            case Constant():
                return reference.array.shape
            case Parameter():
                return reference.codes.shape
        return reference.shape

    # Nodes

    def unique(self, stem: str) -> str:
        """A name that no value has yet."""
        name, number = printable(stem) or "value", 1
        while name in self.values:
            number += 1
            name = f"{stem}_{number}"
        return name

    def add(self, node: Node, shape: Shape, affine: Affine) -> str:
        """Add a node; returns its name. Raises ModelError for a value of no or of too many elements."""
        check_shape(f"node {node.name!r}", shape)
        self.values[node.name] = Value(node.name, tuple(shape), affine, tuple(range(len(shape))))
        self.nodes.append(node)
        return node.name

    def input(self, reference: GraphInput, affine: Affine, call: Call) -> str:
        """The value of an input that `call` quantises, or whose codes it reads; after its movements."""
        item = self.graph.inputs[reference.position]
        if reference.position not in self.inputs:
            name, shape = self.unique(item.name), self._shapes[reference.position]
            check_shape(f"input {name!r}", shape)
            self.values[name] = Value(name, shape, affine, tuple(range(len(shape))))
            self.inputs[reference.position] = name
        name = self.inputs[reference.position]
        if self.values[name].affine != affine:
            raise ModelError(
                f"{call.where}: input {name!r} is quantised twice, to {self.values[name].affine} and to {affine}; "
                "quantise it once, and share the result"
            )
        return self.moved(name, reference.moves)

    def moved(self, name: str, moves: Sequence[Move], stem: str = "") -> str:
        """A value after movements of its elements."""
        for move in moves:
            affine = self.values[name].affine
            name = self.add(move.node(self.unique(stem or move.label), (name,)), move.shape, affine)
        return name

    def move(self, call: Call, reference: Reference, move: Move, which: int = 0) -> None:
        """The call's result is what `reference` stands for, moved. Raises ModelError for constants."""
        match reference:
            case Codes(name):
                self.assign(call, Codes(self.moved(name, (move,))), which)
            case Real(name):
                detached = reference.detached or call.operator not in _CARRIED
                self.assign(call, replace(reference, name=self.moved(name, (move,)), detached=detached), which)
            case Pending():
                self.assign(call, reference.moved(move, detached=call.operator not in _CARRIED), which)
            case GraphInput():
                self.assign(call, reference.moved(move), which)
            case _:
                raise ModelError(f"{call.where}: it moves a constant that is no plain array; fold it before export")

    def look_up(self, call: Call, name: str, table: np.ndarray, affine: Affine, label: str, stem: str) -> str:
        """A value through one table (1, 256); the value itself where the table changes nothing."""
        value = self.values[name]
        if affine == value.affine and np.array_equal(table[0], np.arange(256, dtype=np.uint8)):
            return name
        node = Lookup(self.unique(stem), (name,), label, table, ((0, value.size, 0),))
        return self.add(node, value.shape, affine)

    def look_up_by_place(
        self, call: Call, name: str, tables: np.ndarray, which: np.ndarray, shape: Shape, affine: Affine, label: str
    ) -> str:
        """A value through one of several tables, chosen for every element by `which`, which broadcasts to `shape`."""
        if math.prod(shape) > 1 << 24:
            raise ModelError(f"{call.where}: a constant operand beside {math.prod(shape)} elements is not supported")
        flat = np.broadcast_to(which, shape).reshape(-1)
        edges = np.flatnonzero(np.diff(flat)) + 1
        if len(edges) >= _MOST_RUNS:
            raise ModelError(
                f"{call.where}: its constant operand changes {len(edges)} times over the tensor; up to {_MOST_RUNS} "
                "runs of equal elements are supported"
            )
        starts = [0, *edges.tolist()]
        spans = tuple(
            (start, stop, int(flat[start])) for start, stop in zip(starts, [*starts[1:], flat.size], strict=True)
        )
        return self.add(Lookup(self.unique(call.name), (name,), label, tables, spans), shape, affine)

    def quantized(self, call: Call, pending: Pending, affine: Affine) -> str:
        """The value of a pending number once it is quantised."""
        relu = pending.relu
        if pending.detached:
            self.computed_in_float(pending.name, DETACHED)
        if relu and affine.zero_point != affine.minimum:
            self.computed_in_float(pending.name, "a ReLU stands before a zero point that is not the least code")
        name = pending.emit(self, pending.name, affine, relu)
        if pending.ceiling is not None:
            values = np.minimum(onnxruntime.dequantized(affine), np.float32(pending.ceiling))
            table = onnxruntime.table(values, affine)
            lifted = self.look_up(call, name, table, affine, "clip", f"{pending.name}.clip")
            if lifted != name:
                self.computed_in_float(pending.name, "a Clip stands before codes that reach further")
            name = lifted
        return self.moved(name, pending.moves)

    def real(self, name: str) -> Real:
        """The dequantised value of that name."""
        return Real(name, onnxruntime.dequantized(self.values[name].affine))

    def computed_in_float(self, name: str, reason: str) -> None:
        """Keep for the network's notes that ONNX Runtime computes a layer in float."""
        names = self.in_float.setdefault(reason, [])
        if name not in names:
            names.append(name)

    # The end

    def network(self) -> Network:
        """The finished network: only what its outputs depend on. Raises ModelError for outputs that have no codes."""
        outputs = tuple(self._output(name) for name in self.graph.outputs)
        if not outputs:
            raise ModelError("the graph has no output")
        needed, nodes = set(outputs), []
        for node in reversed(self.nodes):
            if node.name in needed:
                nodes.append(node)
                needed.update(node.inputs)
        inputs = []
        for position, item in enumerate(self.graph.inputs):
            if position not in self.inputs or self.inputs[position] not in needed:
                raise ModelError(f"input {item.name!r} is not used by any output; remove it from the graph")
            inputs.append(self.inputs[position])
        return Network(
            ONNXRUNTIME,
            KERNELS,
            {name: value for name, value in self.values.items() if name in needed},
            tuple(reversed(nodes)),
            tuple(inputs),
            outputs,
            self.graph.name,
            self._notes(needed),
        )

    def _output(self, tensor: str) -> str:
        reference = self._references[tensor]
        if isinstance(reference, Codes) or (isinstance(reference, Real) and reference.plain):
            return reference.name
        what = {
            GraphInput: "an input of the graph that nothing quantises",
            Pending: "computed in float and not quantised",
            Real: "a float function of codes, not quantised",
        }.get(type(reference), "a constant")
        raise ModelError(
            f"output {printable(tensor)!r} is {what}; end the model in a QuantizeLinear, or in one and a "
            "DequantizeLinear"
        )

    def _notes(self, needed: set[str]) -> tuple[str, ...]:
        notes = []
        for reason, names in self.in_float.items():
            used = [name for name in names if name in needed]
            if used:
                listed = ", ".join(used[:8]) + (f" and {len(used) - 8} more" if len(used) > 8 else "")
                notes.append(
                    f"ONNX Runtime computes in float: {listed} ({reason}). Here its sums are integers, rounded once: "
                    "codes may differ by one where a result lies next to the middle between two codes."
                )
        return tuple(notes)


def check_shape(what: str, shape: Shape) -> None:
    """Raises ModelError for a tensor of no or of too many elements."""
    if len(shape) > MOST_AXES or math.prod(shape) > MOST_ELEMENTS or any(size < 1 for size in shape):
        raise ModelError(
            f"{what}: a tensor of shape {tuple(shape[: MOST_AXES + 1])}; 1 to {MOST_ELEMENTS} elements of up to "
            f"{MOST_AXES} axes are supported"
        )
