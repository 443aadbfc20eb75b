"""The metadata flatbuffer of a .tflite image classifier, written field by field with `flatbuffers` alone.

The schema is public: `metadata_schema.fbs` of MediaPipe and TFLite Support. A class below lists the fields of one of
its tables that are used here, by their place in the schema. MediaPipe maintains generated classes for the schema, but
its package brings OpenCV with it. A test compares the bytes with those of the generated classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Union

import flatbuffers

IDENTIFIER = b"M001"
PARSER_VERSION = "1.0.0"  # of the schema; no field below came later
ALIGNMENT = 16  # bytes; the schema of TFLite promises it of every buffer
RGB = 1  # of ColorSpaceType
TENSOR_AXIS_LABELS = 2  # of AssociatedFileType
FEATURE_PROPERTIES, IMAGE_PROPERTIES = 1, 2  # of the union ContentProperties
NORMALIZATION_OPTIONS = 1  # of the union ProcessUnitOptions


class Builder(flatbuffers.Builder):
    """Aligns vectors of bytes as the schema of TFLite asks for; the generated Python code forgets it."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        return super().StartVector(elemSize, numElems, ALIGNMENT if elemSize == 1 else alignment)


@dataclass(frozen=True)
class Byte:
    """An enum, or the type of a union."""

    value: int


@dataclass(frozen=True)
class UInt:
    value: int


Value = Union[str, Byte, UInt, Sequence[float], Sequence["Table"], "Table"]
Table = Mapping[int, Value]  # the values of a table by the place of their field in the schema


class ModelMetadata:
    NAME, DESCRIPTION, SUBGRAPH_METADATA, LICENSE, ASSOCIATED_FILES, MIN_PARSER_VERSION = 0, 1, 3, 5, 6, 7


class SubGraphMetadata:
    INPUT_TENSOR_METADATA, OUTPUT_TENSOR_METADATA = 2, 3


class TensorMetadata:
    NAME, DESCRIPTION, CONTENT, PROCESS_UNITS, STATS, ASSOCIATED_FILES = 0, 1, 3, 4, 5, 6


class Content:
    PROPERTIES_TYPE, PROPERTIES = 0, 1


class ImageProperties:
    COLOR_SPACE, DEFAULT_SIZE = 0, 1


class ImageSize:
    WIDTH, HEIGHT = 0, 1


class ProcessUnit:
    OPTIONS_TYPE, OPTIONS = 0, 1


class NormalizationOptions:
    MEAN, STD = 0, 1


class Stats:
    MAX, MIN = 0, 1


class AssociatedFile:
    NAME, DESCRIPTION, TYPE = 0, 1, 2


def written(
    name: str,
    description: str,
    licence: str,
    image_size: int,
    largest_output: float,
    labels_file: str,
    card_file: str | None = None,
) -> bytes:
    """The metadata of a model of one input, an RGB photograph, and one output, probabilities.

    Args:
        largest_output: 1 for float32 probabilities, 255 for uint8.
        labels_file: the file of the archive with a word for each output, one a line.
        card_file: the file of the archive with the card of sqznet; None where there is none.
    """
    model: dict[int, Value] = {
        ModelMetadata.NAME: name,
        ModelMetadata.DESCRIPTION: description,
        ModelMetadata.SUBGRAPH_METADATA: [
            {
                SubGraphMetadata.INPUT_TENSOR_METADATA: [_image(image_size)],
                SubGraphMetadata.OUTPUT_TENSOR_METADATA: [_probabilities(largest_output, labels_file)],
            }
        ],
        ModelMetadata.LICENSE: licence,
    }
    if card_file is not None:
        model[ModelMetadata.ASSOCIATED_FILES] = [
            {
                AssociatedFile.NAME: card_file,
                AssociatedFile.DESCRIPTION: "classes, input contract and origin, as sqznet reads them",
            }
        ]
    model[ModelMetadata.MIN_PARSER_VERSION] = PARSER_VERSION
    builder = Builder(1024)
    builder.Finish(_add_table(builder, model), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _image(image_size: int) -> Table:
    size = {ImageSize.WIDTH: UInt(image_size), ImageSize.HEIGHT: UInt(image_size)}
    # (pixel - 0) / 1: the network takes pixels as they are. MediaPipe refuses a float32 input that does not say so,
    # and ignores it for uint8; generated code applies it to both.
    as_they_are = {NormalizationOptions.MEAN: [0.0], NormalizationOptions.STD: [1.0]}
    return {
        TensorMetadata.NAME: "image",
        TensorMetadata.DESCRIPTION: "RGB photograph, pixels 0 to 255 as they are",
        TensorMetadata.CONTENT: {
            Content.PROPERTIES_TYPE: Byte(IMAGE_PROPERTIES),
            Content.PROPERTIES: {ImageProperties.COLOR_SPACE: Byte(RGB), ImageProperties.DEFAULT_SIZE: size},
        },
        TensorMetadata.PROCESS_UNITS: [
            {ProcessUnit.OPTIONS_TYPE: Byte(NORMALIZATION_OPTIONS), ProcessUnit.OPTIONS: as_they_are}
        ],
        TensorMetadata.STATS: {Stats.MAX: [255.0], Stats.MIN: [0.0]},
    }


def _probabilities(largest: float, labels_file: str) -> Table:
    return {
        TensorMetadata.NAME: "probabilities",
        TensorMetadata.DESCRIPTION: f"probability of each label, in the order of {labels_file}",
        TensorMetadata.CONTENT: {Content.PROPERTIES_TYPE: Byte(FEATURE_PROPERTIES), Content.PROPERTIES: {}},
        TensorMetadata.STATS: {Stats.MAX: [largest], Stats.MIN: [0.0]},
        TensorMetadata.ASSOCIATED_FILES: [
            {
                AssociatedFile.NAME: labels_file,
                AssociatedFile.DESCRIPTION: "words for the outputs, one a line, in their order",
                AssociatedFile.TYPE: Byte(TENSOR_AXIS_LABELS),
            }
        ],
    }


def _add_table(builder: flatbuffers.Builder, table: Table) -> int:
    """Writes a table after everything that it refers to; returns its place."""
    places = {slot: _add(builder, value) for slot, value in table.items() if not isinstance(value, Byte | UInt)}
    builder.StartObject(max(table, default=-1) + 1)
    for slot, value in table.items():
        if isinstance(value, Byte):
            builder.PrependByteSlot(slot, value.value, 0)
        elif isinstance(value, UInt):
            builder.PrependUint32Slot(slot, value.value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, places[slot], 0)
    return builder.EndObject()


def _add(builder: flatbuffers.Builder, value: str | Sequence[float] | Sequence[Table] | Table) -> int:
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, Mapping):
        return _add_table(builder, value)
    parts = [_add_table(builder, each) if isinstance(each, Mapping) else each for each in value]
    builder.StartVector(4, len(parts), 4)  # floats and offsets of tables have four bytes each
    for given, part in zip(reversed(value), reversed(parts), strict=True):
        if isinstance(given, Mapping):
            builder.PrependUOffsetTRelative(part)
        else:
            builder.PrependFloat32(part)
    return builder.EndVector()
