"""Computes the class map of a photograph, and draws it onto the photograph.

The scores of one class are drawn in colours from yellow to red onto the photograph in grey: a place with the class's
largest score in this photograph is red, and a place with a score of 0 or below stays grey. The map covers only the part
of the photograph that the network sees. The rest of the photograph is drawn darker.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sqznet.core import notebook
from sqznet.core.errors import InputError
from sqznet.images import resize
from sqznet.images.preprocessing import Preprocessing
from sqznet.network.class_map import Grid
from sqznet.predict import prediction
from sqznet.predict.inference import Predictor
from sqznet.predict.prediction import Ranking

LONGEST_SIDE = 1024  # pixels of a picture; a larger photograph is scaled down
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in a grey pixel
STRONGEST = 0.7  # opacity of the colour at the largest score
RED, GREEN_AT_ZERO = 255.0, 210.0
UNSEEN = 0.5  # brightness of the part of a photograph that the network does not see


@dataclass(frozen=True, repr=False)
class ClassMap:
    """Shows where in a photograph each class has its score."""

    values: np.ndarray
    """float32 (rows, columns, classes). The softmax of the average over rows and columns gives the probabilities."""
    ranking: Ranking
    """The most probable classes, the most probable class first."""
    photograph: np.ndarray
    """The whole photograph, upright, uint8 RGB (height, width, 3)."""
    grid: Grid
    """The places of the cells in the input of the network, in pixels."""
    preprocessing: Preprocessing
    """How the photograph was scaled and cropped."""

    def picture(self, index: int | None = None) -> Image.Image:
        """Draws the scores of one class onto the photograph. A larger photograph is scaled to a side of 1,024 pixels.

        Args:
            index: the output of the network. None means the most probable class.

        Raises:
            InputError: the network has no such output.
        """
        image = Image.fromarray(self.photograph)
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        top, left, height, width = resize.central_box(self.photograph.shape[:2], self.preprocessing)
        size = self.preprocessing.image_size
        picture = np.asarray(image)
        sides = zip(self.photograph.shape, picture.shape, (top, left), (height, width), strict=False)
        # The centre of each row and column of the picture, in pixels of the network's input.
        rows, columns = (
            ((np.arange(drawn) + 0.5) * side / drawn - start) * size / length for side, drawn, start, length in sides
        )
        return Image.fromarray(draw(picture, self._scores(index), self.grid, rows, columns, size))

    def square(self, index: int | None = None) -> np.ndarray:
        """Draws the scores of one class onto the input of the network, uint8 (image_size, image_size, 3).

        The arguments and the errors are those of `picture`.
        """
        assert self.ranking.pixels is not None
        return draw_on_input(self.ranking.pixels, self._scores(index), self.grid)

    def _scores(self, index: int | None) -> np.ndarray:
        index = self.ranking[0].index if index is None else index
        if not 0 <= index < self.values.shape[-1]:
            raise InputError(f"the network has no output {index}; it has 0 to {self.values.shape[-1] - 1}")
        return self.values[..., index]

    def __repr__(self) -> str:
        rows, columns, classes = self.values.shape
        return f"<sqznet.ClassMap: {rows} x {columns} cells, {classes:,} classes, {self.ranking[0]}>"

    def _repr_html_(self) -> str:
        content = io.BytesIO()
        self.picture().save(content, "JPEG", quality=90)
        return f"<div>{notebook.picture(content.getvalue(), 'image/jpeg')}</div>"


def compute(predictor: Predictor, photograph: np.ndarray, top: int) -> ClassMap:
    """Classifies a photograph, uint8 RGB (height, width, 3), and returns its class map.

    Raises:
        InputError: the model is a file without a class map.
    """
    grid, preprocessing = predictor.require_class_map(), predictor.card.preprocessing
    pixels = resize.prepare(photograph, preprocessing)
    (probabilities,), (values,) = predictor.predict_with_class_map(pixels[None])
    return ClassMap(
        values, prediction.ranking_of(predictor, probabilities, pixels, top), photograph, grid, preprocessing
    )


def draw_on_input(pixels: np.ndarray, scores: np.ndarray, grid: Grid) -> np.ndarray:
    """Draws the scores of one class (side, side) onto the input of the network, uint8 (size, size, 3)."""
    places = np.arange(len(pixels)) + 0.5
    return draw(pixels, scores, grid, places, places, len(pixels))


def draw(
    picture: np.ndarray, scores: np.ndarray, grid: Grid, rows: np.ndarray, columns: np.ndarray, size: int
) -> np.ndarray:
    """Draws the scores of one class onto a picture.

    Args:
        picture: uint8 RGB (height, width, 3).
        scores: (side, side), of one class.
        grid: the places of the scores in the input of the network.
        rows: (height,). The centre of each row of the picture, in pixels of the input. columns: (width,), the same.
        size: side of the input. The picture is darker where its rows and columns are outside 0..size.

    Returns:
        uint8 (height, width, 3).
    """
    largest = float(scores.max())
    shares = np.clip(scores / largest, 0, 1) if largest > 0 else np.zeros_like(scores)
    strength = _weights(rows, grid) @ shares @ _weights(columns, grid).T  # (height, width)
    opacity = STRONGEST * strength[..., None]
    colour = np.stack([np.full_like(strength, RED), GREEN_AT_ZERO * (1 - strength), np.zeros_like(strength)], axis=-1)
    grey = (picture @ np.array(LUMA))[..., None]
    drawn = (1 - opacity) * grey + opacity * colour
    seen = ((rows >= 0) & (rows <= size))[:, None] & ((columns >= 0) & (columns <= size))
    return np.rint(np.where(seen[..., None], drawn, UNSEEN * grey)).astype(np.uint8)


def _weights(places: np.ndarray, grid: Grid) -> np.ndarray:
    """Returns the weight of each cell at each place, linear between the centres of cells: (places, side).

    Beyond the outermost centres the nearest cell has the whole weight.
    """
    at = np.clip((places - grid.offset) / grid.stride, 0, grid.side - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(grid.side)))
