"""Writes the metadata flatbuffer of a .tflite image classifier with `flatbuffers` alone.

The schema is public: `metadata_schema.fbs` of MediaPipe and TFLite Support. MediaPipe has generated classes for it, but
its package depends on OpenCV. A test compares the bytes with those of the generated classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Union

import flatbuffers

IDENTIFIER = b"M001"
PARSER_VERSION = "1.0.0"  # of the schema; all fields below are that old
ALIGNMENT = 16  # bytes, of every buffer in the schema of TFLite
RGB = 1  # of ColorSpaceType
TENSOR_AXIS_LABELS = 2  # of AssociatedFileType
FEATURE_PROPERTIES, IMAGE_PROPERTIES = 1, 2  # of the union ContentProperties
NORMALIZATION_OPTIONS = 1  # of the union ProcessUnitOptions
_FIELDS = {  # of the tables that are used here, in the order of the schema
    "ModelMetadata": "name description version subgraph_metadata author license associated_files min_parser_version",
    "SubGraphMetadata": "name description input_tensor_metadata output_tensor_metadata",
    "TensorMetadata": "name description dimension_names content process_units stats associated_files",
    "Content": "content_properties_type content_properties",
    "ImageProperties": "color_space default_size",
    "ImageSize": "width height",
    "ProcessUnit": "options_type options",
    "NormalizationOptions": "mean std",
    "Stats": "max min",
    "AssociatedFile": "name description type",
}


class Builder(flatbuffers.Builder):
    """Aligns vectors of bytes as the schema of TFLite requires. The generated Python code does not align them."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        return super().StartVector(elemSize, numElems, ALIGNMENT if elemSize == 1 else alignment)


class Byte(int):
    """An enum, or the type of a union."""


class UInt(int):
    pass


Value = Union[str, Byte, UInt, Sequence[float], Sequence["Table"], "Table"]
Table = Mapping[int, Value]  # the values of a table by slot


def build(
    name: str,
    description: str,
    licence: str,
    image_size: int,
    largest_output: float,
    labels_file: str,
    card_file: str,
    second_output: tuple[str, str] | None = None,
) -> bytes:
    """Builds the metadata of a model of one input, an RGB photograph, and the output of probabilities.

    Args:
        largest_output: 1 for float32 probabilities, 255 for uint8.
        labels_file: the member of the archive with the name of each output, one name on each line.
        card_file: the member of the archive with sqznet's card.
        second_output: name and description of a second output, or None if the model has one output.
    """
    outputs = [_probabilities(largest_output, labels_file)]
    if second_output is not None:
        name_of_second, text = second_output
        content = _content(FEATURE_PROPERTIES, {})
        outputs.append(_table("TensorMetadata", name=name_of_second, description=text, content=content))
    ports = {"input_tensor_metadata": [_image(image_size)], "output_tensor_metadata": outputs}
    card = {"name": card_file, "description": "classes, input contract and origin, as sqznet reads them"}
    model = _table(
        "ModelMetadata",
        name=name,
        description=description,
        subgraph_metadata=[_table("SubGraphMetadata", **ports)],
        license=licence,
        associated_files=[_table("AssociatedFile", **card)],
        min_parser_version=PARSER_VERSION,
    )
    builder = Builder(1024)
    builder.Finish(_add_table(builder, model), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _table(kind: str, **fields: Value) -> Table:
    slots = _FIELDS[kind].split()
    return {slots.index(name): value for name, value in fields.items()}


def _content(kind: int, properties: Table) -> Table:
    return _table("Content", content_properties_type=Byte(kind), content_properties=properties)


def _image(image_size: int) -> Table:
    size = _table("ImageSize", width=UInt(image_size), height=UInt(image_size))
    image = _table("ImageProperties", color_space=Byte(RGB), default_size=size)
    # (pixel - 0) / 1: the network takes raw pixels. MediaPipe refuses a float32 input without normalization options,
    # and ignores them for uint8; generated code applies them to both.
    identity = _table("NormalizationOptions", mean=[0.0], std=[1.0])
    return _table(
        "TensorMetadata",
        name="image",
        description="RGB photograph, pixels 0 to 255 as they are",
        content=_content(IMAGE_PROPERTIES, image),
        process_units=[_table("ProcessUnit", options_type=Byte(NORMALIZATION_OPTIONS), options=identity)],
        stats=_table("Stats", max=[255.0], min=[0.0]),
    )


def _probabilities(largest: float, labels_file: str) -> Table:
    labels = _table(
        "AssociatedFile",
        name=labels_file,
        description="words for the outputs, one a line, in their order",
        type=Byte(TENSOR_AXIS_LABELS),
    )
    return _table(
        "TensorMetadata",
        name="probabilities",
        description=f"probability of each label, in the order of {labels_file}",
        content=_content(FEATURE_PROPERTIES, {}),
        stats=_table("Stats", max=[largest], min=[0.0]),
        associated_files=[labels],
    )


def _add_table(builder: flatbuffers.Builder, table: Table) -> int:
    """Writes a table after everything that it refers to. Returns the offset of the table."""
    offsets = {slot: _add(builder, value) for slot, value in table.items() if not isinstance(value, Byte | UInt)}
    builder.StartObject(max(table, default=-1) + 1)
    for slot, value in table.items():
        if isinstance(value, Byte):
            builder.PrependByteSlot(slot, value, 0)
        elif isinstance(value, UInt):
            builder.PrependUint32Slot(slot, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, offsets[slot], 0)
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
