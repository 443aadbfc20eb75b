"""Which convolutions of a network have no activation after them: ours have one after each, but for a bypass's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqznet.network.architecture import FIRES


@dataclass(frozen=True)
class Node:
    """A layer of a graph, in its order."""

    kind: str  # convolution, activation, concat, passing (which an activation may as well come after) or other
    name: str  # of a convolution, ours; else nothing
    inputs: set[bytes]  # names of tensors; empty where the file does not say
    outputs: set[bytes]


def missing(nodes: list[Node]) -> list[str]:
    """The convolutions without an activation, as far as the file tells."""
    convolutions = [node for node in nodes if node.kind == "convolution" and node.name and "bypass" not in node.name]
    activations = [node for node in nodes if node.kind == "activation"]
    joins = any(node.kind == "concat" and node.inputs for node in nodes)
    if all(node.outputs for node in convolutions) and all(node.inputs for node in activations):
        if not activations and not joins:
            return []  # weights alone, without the rest of the graph
        taken = set().union(*(node.inputs for node in activations))
        for node in reversed(nodes):  # what is activated after it was joined, or passed on
            if node.kind in ("concat", "passing") and node.outputs & taken:
                taken |= node.inputs
        return [node.name for node in convolutions if not node.outputs & taken]
    return _missing_by_order(nodes)


def _missing_by_order(nodes: list[Node]) -> list[str]:
    """Squeeze convolutions that no activation follows in the list, though one follows each expand convolution."""
    activated, before = set(), ""
    for node in nodes:
        if node.kind == "activation":
            activated.add(before)
        before = node.name if node.kind == "convolution" else ""
    return [
        f"{fire}_squeeze1x1"
        for fire in FIRES
        if f"{fire}_squeeze1x1" not in activated and {f"{fire}_expand1x1", f"{fire}_expand3x3"} <= activated
    ]


def refusal(names: Iterable[str]) -> str:
    """Why a network with these convolutions without an activation cannot be imported."""
    names = list(names)
    squeezes = all(name.endswith("_squeeze1x1") for name in names)
    after = "the squeeze convolutions" if squeezes else ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"this network has no activation after {after}; sqznet cannot represent that"
