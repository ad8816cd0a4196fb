"""How many bits the sums of each layer can take: what `accelsim compile --explain` tells."""

from __future__ import annotations

from accelsim.network import Network
from accelsim.network.substitution import matrix_nodes, reachable_sums


def sum_bits(network: Network) -> dict[str, int]:
    """For each convolution and linear layer the least width that holds every sum which its weights allow.

    The sums are those of the machine: raw codes, padded with the zero point. A part of a sum needs no more than the
    whole, for zero is among the products of every term.
    """
    bits = {}
    for node in matrix_nodes(network):
        reach = reachable_sums(network, node, folded=True)
        bits[node.name] = 1 + max(int(reach.high.max()).bit_length(), (-int(reach.low.min()) - 1).bit_length())
    return bits
