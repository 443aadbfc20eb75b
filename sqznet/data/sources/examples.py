"""Reads the photograph, label and names from a record of another builder, under any of the usual keys.

The usual keys are those of TF-Slim and Inception (`image/encoded`, `image/class/label`), of TensorFlow's tutorials
(`image_raw`, `label`) and of TensorFlow Datasets (`image`, `label`). Variants of these keys are supported as well.
"""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from sqznet.core.errors import InputError
from sqznet.data.sources.listing import normalized

PHOTOGRAPH = (
    "image/encoded", "image_raw", "image/raw", "image", "image_encoded", "encoded_image", "encoded", "image_bytes",
    "image/data", "image_data", "image/image", "img_raw", "img", "image_jpeg", "jpeg", "jpg", "png",
)  # fmt: skip
LABEL = (
    "image/class/label", "label", "image/label", "image_label", "class/label", "image/class/id", "class_id", "label_id",
    "image/class", "class", "target", "labels", "y",
)  # fmt: skip
SYNSET = ("image/class/synset", "synset", "wnid", "class/synset")
TEXT = (
    "image/class/text", "class/text", "label_text", "label/text", "image/label/text", "class_name", "label_name",
    "class_text",
)  # fmt: skip
FILENAME = ("image/filename", "filename", "file_name", "image/file_name", "image_name", "image/name", "image/source_id")
HEIGHT = ("image/height", "height", "rows", "image_height")
WIDTH = ("image/width", "width", "cols", "columns", "image_width")
FORMAT = ("image/format", "format", "image_format")
_ENCODED = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")


def photograph_key(features: Any) -> str | None:
    return next((key for key in PHOTOGRAPH if key in features and features[key].bytes_list.value), None)


def photograph(features: Any) -> bytes:
    """Returns the encoded photograph. Raw pixels are converted to PNG."""
    content: bytes = features[photograph_key(features)].bytes_list.value[0]
    is_raw = text(features, FORMAT).lower() == b"raw" or not content.startswith(_ENCODED)
    return (_from_pixels(content, features) if is_raw else None) or content


def _from_pixels(content: bytes, features: Any) -> bytes | None:
    height, width = _number(features, HEIGHT), _number(features, WIDTH)
    if not height or not width or len(content) not in (height * width, 3 * height * width):
        return None
    mode = "L" if len(content) == height * width else "RGB"
    buffer = io.BytesIO()
    Image.frombytes(mode, (width, height), content).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def label(features: Any, where: str) -> int | str | None:
    """Returns the stored label. If there is no label, returns the class name. If there is no class name, returns None.

    Raises:
        InputError: the label is not a single whole number.
    """
    for key in LABEL:
        kind = features[key].WhichOneof("kind") if key in features else None
        values = getattr(features[key], kind).value if kind else []
        if not values:
            continue
        if len(values) > 1:
            raise InputError(f"{where}: {key} has {len(values)} values; expected one, the class of the photograph")
        value = values[0]
        if isinstance(value, bytes):
            return int(value) if value.isdigit() else as_name(value)
        if not float(value).is_integer():  # false for NaN and infinity, too
            raise InputError(f"{where}: {key} is {value}; expected a whole number, the class of the photograph")
        return int(value)
    return as_name(text(features, TEXT) or text(features, SYNSET)) or None


def text(features: Any, keys: tuple[str, ...]) -> bytes:
    """Returns the value of the first of the keys that has a value."""
    values = (features[key].bytes_list.value for key in keys if key in features)
    return next((stripped for value in values if value and (stripped := value[0].strip())), b"")


def as_name(text: bytes) -> str:
    """Decodes a class name as UTF-8. If that fails, decodes it as Latin-1, which older builders wrote."""
    try:
        return normalized(text.decode())
    except UnicodeDecodeError:
        return normalized(text.decode("latin-1"))


def keys_in_words(features: Any) -> str:
    """Lists the keys that were expected, and the keys of the record with their types."""
    found = [
        f"{key} ({(features[key].WhichOneof('kind') or 'empty').removesuffix('_list')})" for key in sorted(features)
    ]
    return (
        f"expected a photograph in {PHOTOGRAPH[0]} (or {', '.join(PHOTOGRAPH[1:4])}, ...) and its class in {LABEL[0]} "
        f"(or {', '.join(LABEL[1:4])}, ...); found {', '.join(found) or 'no keys at all'}"
    )


def _number(features: Any, keys: tuple[str, ...]) -> int | None:
    values = (features[key].int64_list.value for key in keys if key in features)
    return next((int(value[0]) for value in values if value), None)
