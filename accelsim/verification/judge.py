"""Say of every difference between the machine and PyTorch whether it is explained.

Three values of each layer are held side by side: the machine's, the integer reference's, and PyTorch's own. The machine
must equal the reference everywhere; on a machine whose requant unit has another arithmetic than the engine's, the
reference has that arithmetic too. Where PyTorch differs from both, the layer is computed again from PyTorch's own
inputs, and a difference is explained in these cases only:

* the machine's arithmetic gives PyTorch's code then: the difference came in with the inputs. It is explained as far as
  the differences of these inputs are, which is computed: with only those that are explained, the layer must still give
  PyTorch's code;
* the engine's does and the machine's does not, in a channel that has no certificate (the machine's arithmetic has
  changed it);
* the rule of the lanes of this host does (the network stands for another kernel set);
* the sum with the int16 saturation of this host's matrix kernels does, pair of products by pair, also where the sums
  are those of a layer before this one of which PyTorch makes no tensor;
* a torch.export graph's average, which it sums in float, lies halfway between two codes;
* in work in binary32 with functions (exponentials) and sums of rows, where PyTorch's result depends on the host's
  libraries: both results lie within the bounds that follow from PyTorch's own operands and from what the functions and
  sums promise (`arithmetic/vector_bounds.py`). IEEE steps alone have no such bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from accelsim.arithmetic.engines import PT2E
from accelsim.arithmetic.saturation import may_saturate
from accelsim.arithmetic.vector_bounds import Bounds, exactly
from accelsim.network import AveragePool, Convolution, Linear, Network, Node, Output, rounding
from accelsim.network.reference import node_bounds
from accelsim.network.saturated import owner_of, saturated
from accelsim.network.substitution import LayerUnit, layer_codes
from accelsim.network.vector import IN_BINARY32

from .result import LayerVerification

if TYPE_CHECKING:
    from accelsim.frontend.calls import Returned
    from accelsim.frontend.reference import Run


class Judge:
    """Says of one layer after the other what explains its differences."""

    def __init__(
        self,
        network: Network,
        host: Network,
        reference: dict[str, np.ndarray],
        run: Run,
        units: Mapping[str, LayerUnit],
        arithmetic: str,
    ) -> None:
        self._network, self._host, self._reference = network, host, reference
        self._units, self._arithmetic = units, arithmetic
        self._nodes = {node.name: node for node in network.nodes}
        self._unseen: set[str] = set()
        self._made, self._bounded = run.values.keys(), dict[str, Bounds]()
        self._torch = {name: run.values.get(name, reference[name]) for name in network.inputs}
        for node in host.nodes:
            # Where PyTorch makes no tensor of its own the value follows from those before.
            made = run.values.get(node.name)
            self._torch[node.name] = host.apply(node.name, self._torch) if made is None else made
        #: PyTorch's values with the machine's where nothing explains their difference.
        self._explained = {name: reference[name] for name in network.inputs}
        self._machine = dict(self._explained)

    def input(self, name: str) -> LayerVerification:
        """The comparison of an input's codes, which nothing but the rule of their quantisation can make differ."""
        machine, expected = self._reference[name], self._torch[name]
        different = machine != expected
        count = int(np.count_nonzero(different))
        cause = f"{count:,} where PyTorch quantises the input by another rule" if count else ""
        return LayerVerification(name, machine.size, count, _bits(machine, expected), 0, cause)

    def unseen(self, node: Node) -> None:
        """A layer that is not compared, because the machine or PyTorch makes no tensor of it."""
        name = node.name
        self._unseen.add(name)
        self._machine[name] = self._of_machine(node, self._machine)
        alike = all(self._inherits(source) for source in node.inputs)
        self._explained[name] = self._torch[name] if alike else self._host.apply(name, self._explained)

    def output(self, output: Output, returned: Returned) -> LayerVerification:
        """The comparison of an output as PyTorch's caller gets it, which a later operator may have changed."""
        name, compared = output.name, output.quantized.size
        if returned.elements.shape != output.quantized.shape:
            cause = f"PyTorch returns the shape {returned.elements.shape}, the machine {output.quantized.shape}"
            return LayerVerification(name, compared, compared, 0, 0, cause)
        if returned.scale is not None and (returned.scale, returned.zero_point) != (output.scale, output.zero_point):
            cause = f"PyTorch returns scale {returned.scale} and zero point {returned.zero_point}"
            return LayerVerification(name, compared, compared, 0, 0, cause)
        real = returned.elements.dtype.kind == "f"
        ours = output.dequantize() if real else output.quantized
        different = ours != returned.elements
        count = int(np.count_nonzero(different))
        if not count:
            return LayerVerification(name, compared, 0, 0, 0, "")
        made = Output(name, self._torch[name], output.scale, output.zero_point)
        kept = (made.dequantize() if real else made.quantized) == returned.elements
        own = output.quantized == self._machine[name]
        explained = different & kept & own & (self._explained[name] == self._torch[name])
        parts = {
            "as in the layer": explained,
            "where PyTorch's tensor was changed after its layer had made it": different & ~kept,
            "where the machine's output is not what its layer made": different & kept & ~own,
            "unexplained in the layer": different & kept & own & ~explained,
        }
        causes = [f"{np.count_nonzero(part):,} {cause}" for cause, part in parts.items() if part.any()]
        bits = 0 if real else _bits(ours, returned.elements)
        return LayerVerification(name, compared, count, bits, int(np.count_nonzero(explained)), "; ".join(causes))

    def _inherits(self, source: str) -> bool:
        """Whether every difference of a value is explained."""
        return np.array_equal(self._explained[source], self._torch[source])

    def layer(self, node: Node, machine: np.ndarray) -> LayerVerification:
        """The comparison of one layer, whose outputs on the machine are `machine`."""
        name = node.name
        expected = self._torch[name]
        different = _differ(machine, expected)
        count = int(np.count_nonzero(different))
        unit = self._units.get(name)
        self._explained[name], self._machine[name] = expected, machine
        if not count and unit is None:
            return LayerVerification(name, machine.size, 0, 0, 0, "")
        exact = self._network.apply(name, self._torch)
        here = self._of_machine(node, self._torch)
        changed = (0, 0)
        if unit is not None:
            change = np.abs(here.astype(np.int32) - exact)
            changed = int(np.count_nonzero(change)), int(change.max(initial=0))
        if not count:
            return LayerVerification(name, machine.size, 0, 0, 0, "", *changed)
        bits = _bits(machine, expected)
        unfaithful = different & _differ(machine, self._reference[name])
        open_ = different & ~unfaithful
        causes = []
        if unfaithful.any():
            causes.append(f"{np.count_nonzero(unfaithful):,} where the machine differs from the integer reference")
        came_in = open_ & ~_differ(here, expected)
        inherited = came_in
        if came_in.any() and not all(map(self._inherits, node.inputs)):
            inherited = came_in & (self._of_machine(node, self._explained) == expected)
        if inherited.any():
            causes.append(f"{np.count_nonzero(inherited):,} inherited from the layers before")
        if np.any(came_in & ~inherited):
            causes.append(f"{np.count_nonzero(came_in & ~inherited):,} inherited from what is not explained")
        unexplained = unfaithful | (came_in & ~inherited)
        open_ &= ~came_in
        altered = open_ & (exact == expected) & self._may_change(node)
        if altered.any():
            causes.append(f"{np.count_nonzero(altered):,} changed by the machine's {self._arithmetic}")
        open_ &= ~altered
        for part, cause in self._by_host(node, open_, exact):
            causes.append(f"{np.count_nonzero(part):,} {cause}")
            open_ &= ~part
        if open_.any():
            causes.append(f"{np.count_nonzero(open_):,} where PyTorch's kernel differs from the exact arithmetic")
        unexplained |= open_
        self._explained[name] = np.where(unexplained, machine, expected)
        explained = count - int(np.count_nonzero(unexplained))
        return LayerVerification(name, machine.size, count, bits, explained, "; ".join(causes), *changed)

    def _by_host(self, node: Node, open_: np.ndarray, exact: np.ndarray) -> Iterator[tuple[np.ndarray, str]]:
        """Which outputs PyTorch's kernels make otherwise on this host, and how; `open_` shrinks between two answers.

        `exact`: what the network's arithmetic makes of PyTorch's operands.
        """
        name = node.name
        if self._host is not self._network:
            of_lanes = open_ & (self._host.apply(name, self._torch) == self._torch[name])
            if of_lanes.any():
                yield of_lanes, f"rounded otherwise in PyTorch's {self._host.kernels.aten} lanes"
        if isinstance(node, Convolution | Linear) and open_.any():
            explained, pairs = self._saturated(node, open_)
            if pairs:
                owner = owner_of(self._network, node)
                yield (
                    explained,
                    f"by the int16 saturation of {pairs:,} pairs of products in {owner}'s kernels on this host",
                )
        if open_.any():
            explained, pairs, before = self._saturated_before(node, open_)
            if explained.any():
                yield (
                    explained,
                    f"by the int16 saturation of {pairs:,} pairs of products in {before!r}, of which PyTorch makes no "
                    "tensor, on this host",
                )
        if isinstance(node, IN_BINARY32) and open_.any():
            bounds = self._bounds_from_operands(node)
            held = open_ & bounds.hold(self._torch[name]) & bounds.hold(exact)
            if held.any():
                yield held, f"within the bounds of its functions and sums{self._by_codes(name, exact, held)}"
        if isinstance(node, AveragePool) and self._network.engine == PT2E and open_.any():
            halves = open_ & self._halfway(node)
            if halves.any():
                yield halves, "halfway between two codes, where the graph sums in float"

    def _by_codes(self, name: str, ours: np.ndarray, where: np.ndarray) -> str:
        """By how many codes two results differ at most; nothing of numbers."""
        if self._network.values[name].affine.is_float:
            return ""
        return f", by {np.abs(ours.astype(np.int32) - self._torch[name])[where].max()} at most"

    def _bounds(self, name: str) -> Bounds:
        """The bounds of a value: PyTorch's own numbers where it makes a tensor of them."""
        if name not in self._bounded:
            node = self._nodes.get(name)
            if isinstance(node, IN_BINARY32) and name not in self._made:
                self._bounded[name] = self._bounds_from_operands(node)
            else:
                self._bounded[name] = exactly(self._torch[name])
        return self._bounded[name]

    def _bounds_from_operands(self, node: Node) -> Bounds:
        """The bounds of a node's value, if its operands lie within theirs."""
        return node_bounds(self._network, node, [self._bounds(name) for name in node.inputs])

    def _of_machine(self, node: Node, values: dict[str, np.ndarray]) -> np.ndarray:
        """What the machine's arithmetic makes of a layer's inputs."""
        unit = self._units.get(node.name)
        if not isinstance(node, Convolution | Linear) or unit is None:
            return self._network.apply(node.name, values)
        codes = layer_codes(self._network, node, unit.rule, values)
        return codes.reshape(self._torch[node.name].shape)

    def _may_change(self, node: Node) -> np.ndarray:
        """Which outputs of a layer another arithmetic may change, for all that is proved; for broadcasting."""
        unit = self._units.get(node.name)
        if unit is None or unit.certificate is None:
            return np.array(unit is not None)
        free = ~unit.certificate.certified
        axes = len(self._network.values[node.name].shape)
        return free if isinstance(node, Linear) else free.reshape(-1, *(1,) * (axes - 2))

    def _halfway(self, node: AveragePool) -> np.ndarray:
        """Which averages lie halfway between two codes: of the mirrored codes they are rounded to the other one."""
        (name,) = node.inputs
        # ~q is max - q of uint8 and -1 - q of int8: an odd number less the code, so that halves change their even side.
        mirrored = ~self._network.apply(node.name, {name: ~self._torch[name]})
        return mirrored != self._network.apply(node.name, self._torch)

    def _saturated_before(self, node: Node, where: np.ndarray) -> tuple[np.ndarray, int, str]:
        """As `_saturated`, of a matrix layer before `node` that is not compared itself; and the layer's name.

        So it is with a torch.export graph's sums that are moved (pooled, reshaped) before they are quantised: all that
        lies between is computed again from the saturated sums.
        """
        path = [node]
        while len(path[-1].inputs) == 1 and path[-1].inputs[0] in self._unseen:
            path.append(self._nodes[path[-1].inputs[0]])
        *between, source = path
        explained, pairs = np.zeros_like(where), 0
        if not between or not isinstance(source, Convolution | Linear) or not self._saturates(source):
            return explained, pairs, source.name
        shape = self._torch[source.name].shape
        places = tuple(axis.reshape(-1) for axis in np.indices(shape))
        for code, count in saturated(self._network, source, self._torch[source.inputs[0]], places):
            values = {**self._torch, source.name: code.reshape(shape)}
            for step in reversed(between):
                values[step.name] = self._network.apply(step.name, values)
            right = where & (values[node.name] == self._torch[node.name])
            if np.count_nonzero(right) > np.count_nonzero(explained):
                explained, pairs = right, int(count.sum())
        return explained, pairs, source.name

    def _saturates(self, node: Convolution | Linear) -> bool:
        """Whether pairs of products may saturate in this host's kernels for a layer."""
        from accelsim.frontend import host_kernels

        owner = owner_of(self._network, node)
        depthwise = isinstance(node, Convolution) and node.groups == rounding.output_channels(node) > 1
        return may_saturate(owner, host_kernels(owner).matrix, depthwise=depthwise)

    def _saturated(self, node: Convolution | Linear, where: np.ndarray) -> tuple[np.ndarray, int]:
        """Which of the outputs `where` are PyTorch's codes once pairs of products saturate, and how many pairs do.

        One order of pairing must explain them; the one that explains most counts.
        """
        explained, pairs = np.zeros_like(where), 0
        if not self._saturates(node):
            return explained, pairs
        places = np.nonzero(where)
        expected = self._torch[node.name][places]
        for code, count in saturated(self._network, node, self._torch[node.inputs[0]], places):
            right = (code == expected) & (count > 0)
            if np.count_nonzero(right) > np.count_nonzero(explained):
                explained = np.zeros_like(where)
                explained[places] = right
                pairs = int(count[right].sum())
        return explained, pairs


def _bits(ours: np.ndarray, theirs: np.ndarray) -> int:
    """How many bits of two arrays of codes differ."""
    first, second = (np.ascontiguousarray(part).reshape(-1).view(np.uint8) for part in (ours, theirs))
    return int(np.bitwise_count(first ^ second).sum())


def _differ(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Where two arrays differ; one NaN is as another."""
    different = ours != theirs
    return different & ~(np.isnan(ours) & np.isnan(theirs)) if ours.dtype.kind == "f" else different
