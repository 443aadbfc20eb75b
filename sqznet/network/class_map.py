"""Describes the class map: for each class, where in the image its score comes from.

The class map is the output of conv10 after its activation (ReLU or ELU) and before the global average, float32 (batch,
side, side, classes). The logits are the average of the map over its rows and columns, and the probabilities are the
softmax of the logits. This is exact, except for rounding, because no operation is between the activation and the
average. There is one exception. An int8 .tflite file stores its logits in 256 steps and cuts off the logits outside the
range of these steps. The manifest has this range as `logit_range`. In the map itself nothing is cut off there.

The temperature of a calibrated network divides the logits. With ReLU, conv10 contains the division, so the map is
divided as well. With ELU, the average of the map has to be divided by the temperature: it is the `divisor` of the grid.

The cell in row r and column c has its centre at the pixel (offset + stride * r, offset + stride * c) of the input. The
corner of the image is at 0, and the centre of its first pixel at 0.5.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from sqznet.core import typed
from sqznet.core.errors import InputError
from sqznet.network.architecture import ARCHS, FIRES, Network, map_sides

NAME = "class_map"  # of the second output of exported files, and of its entry in sqznet.json and manifest.json
DESCRIPTION = (
    "class scores by place, float32 (batch, rows, columns, classes): the softmax of the average over rows and columns "
    "gives the probabilities"
)
HOW_TO = "export the trained model with both outputs: python -m sqznet.export --outputs=probabilities,class_map"


@dataclass(frozen=True)
class Grid:
    """The places of the cells of a class map in the image that the network takes, in pixels."""

    side: int  # cells in a row and in a column
    stride: float  # between the centres of neighbours
    offset: float  # of the centre of the first cell; in the published v1.0 its outermost cells see only padding
    divisor: float = 1.0  # the logits are the average divided by it; the temperature of a calibrated network with ELU

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def grid_of(network: Network, temperature: float = 1.0) -> Grid:
    """Returns the grid of a network's class map.

    Args:
        temperature: the value that the logits of a calibrated network are divided by.

    Raises:
        InputError: the image is so small that the input of a pool is smaller than a window.
    """
    arch, sides = ARCHS[network.arch], map_sides(network.arch, network.image_size)
    side, stride, offset = sides["fire9"], 2.0, arch.conv1_kernel / 2
    for name in ("conv1", *FIRES):
        if name in arch.pooled_after:  # its windows of 3 start at every second cell
            offset += stride
            stride *= 2
    padding = network.conv10_padding
    divisor = 1.0 if network.activation == "relu" else temperature
    return Grid(side + 2 * padding, stride, offset - padding * stride, divisor)


def read(content: dict[str, Any], where: str) -> Grid | None:
    """Reads the grid from a parsed sqznet.json. Returns None if the file describes no class map.

    Raises:
        InputError: the description is incomplete, or a value makes no sense.
    """
    if NAME not in content:
        return None
    typed.require(content, {NAME: dict}, where)
    found, what = content[NAME], f"{where}, {NAME}"
    typed.require(found, {"side": int, "stride": float, "offset": float, "divisor": float}, what)
    grid = Grid(found["side"], found["stride"], found["offset"], found["divisor"])
    if grid.side < 1 or not 0 < grid.stride < 1e6 or not abs(grid.offset) < 1e6 or not 0 < grid.divisor < 1e6:
        raise InputError(
            f"{what} is {grid.to_dict()}: expected a side of 1 or more, a stride and a divisor above 0; export again"
        )
    return grid


def logits(maps: np.ndarray) -> np.ndarray:
    """Returns the logits of class maps: float32 (n, side, side, classes) to (n, classes)."""
    return maps.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)


def probabilities(maps: np.ndarray, limits: tuple[float, float] | None = None, *, divisor: float = 1.0) -> np.ndarray:
    """Returns the probabilities that class maps give: float32 (n, side, side, classes) to (n, classes).

    Args:
        limits: the lowest and the highest logit that the file can represent. Other logits are cut off there.
        divisor: of the grid.
    """
    scores = logits(maps).astype(np.float64) / divisor
    if limits is not None:
        scores = scores.clip(*limits)
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
