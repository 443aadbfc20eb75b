"""Finds convolutions that no activation follows.

In sqznet's networks, only the convolutions of bypasses have no activation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqznet.network.architecture import FIRES


@dataclass(frozen=True)
class Node:
    """Describes a layer of a graph."""

    kind: str  # convolution, activation, concat, passing (an activation may come after it instead), or other
    name: str  # our name of a convolution, else empty
    inputs: set[bytes]  # names of tensors; empty if the file has none
    outputs: set[bytes]


def missing(nodes: list[Node]) -> list[str]:
    """Returns the names of the convolutions that no activation follows. `nodes` are in the order of the graph."""
    convolutions = [node for node in nodes if node.kind == "convolution" and node.name and "bypass" not in node.name]
    activations = [node for node in nodes if node.kind == "activation"]
    joins = any(node.kind == "concat" and node.inputs for node in nodes)
    if all(node.outputs for node in convolutions) and all(node.inputs for node in activations):
        if not activations and not joins:
            return []  # a file of weights only
        taken = set().union(*(node.inputs for node in activations))
        for node in reversed(nodes):  # outputs that are activated after concat or pooling
            if node.kind in ("concat", "passing") and node.outputs & taken:
                taken |= node.inputs
        return [node.name for node in convolutions if not node.outputs & taken]
    return _missing_by_order(nodes)


def _missing_by_order(nodes: list[Node]) -> list[str]:
    """Returns the squeeze convolutions without an activation, in fire modules whose expand convolutions have one."""
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
    """Returns the message for a network in which these convolutions have no activation."""
    names = list(names)
    squeezes = all(name.endswith("_squeeze1x1") for name in names)
    after = "the squeeze convolutions" if squeezes else ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"this network has no activation after {after}; sqznet cannot represent that"
