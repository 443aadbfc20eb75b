"""Writes golden vectors: eight inputs of the network and the outputs of each file, for self-tests on phones.

golden/0.png to 7.png are lossless. inputs.bin has the same pixels, uint8 (8, size, size, 3). expected/FILE.bin has the
outputs of FILE in its own type, little-endian, (8, classes). photo.jpg is the photograph of 0.png before preprocessing.
photo_turned.jpg is the same photograph with turned pixels and an EXIF orientation. A decoder that ignores the
orientation computes other pixels than 0.png from it. The pictures are records of the split that the files were compared
on, or synthetic pictures.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from sqznet.core import files
from sqznet.core.errors import CheckFailed, InputError
from sqznet.data import records
from sqznet.data.manifest import Manifest
from sqznet.data.sources import synthetic
from sqznet.export.verify import MAP_TOLERANCES, Reference
from sqznet.images import crop, decode
from sqznet.images.preprocessing import Preprocessing
from sqznet.network import class_map
from sqznet.predict import inference
from sqznet.predict.inference import Predictor
from sqznet.predict.runtimes import TfliteRuntime

FOLDER = "golden"
INPUTS = "inputs.bin"
VECTORS = "golden.json"
PHOTO = "photo.jpg"
PHOTO_TURNED = "photo_turned.jpg"
TURN = 6  # EXIF orientation of PHOTO_TURNED: the stored pixels have to be turned by 90 degrees clockwise
COUNT = 8
# Largest difference of a probability from the file's output at the export, by quantization. GPUs of phones compute
# float32 in float16, and int8 kernels of different runtimes round differently: up to 0.06 on 1,000 photographs.
SELF_TEST_TOLERANCES = {"none": 1e-3, "float16": 2e-2, "dynamic": 1e-1, "int8": 1e-1}


def names(models: set[str]) -> set[str]:
    """Returns the paths below FOLDER that `write` may write for model files of these names."""
    return {
        INPUTS,
        VECTORS,
        PHOTO,
        PHOTO_TURNED,
        *(f"{number}.png" for number in range(COUNT)),
        *map(_expected, models),
    }


def _expected(name: str) -> str:
    return f"expected/{name}.bin"


def choose(labels: np.ndarray) -> list[int]:
    """Chooses the indices of up to eight records, from as many classes as possible."""
    _, firsts = np.unique(labels, return_index=True)
    spread = [int(place) for place in firsts[:: max(1, len(firsts) // COUNT)]][:COUNT]
    others = [place for place in range(len(labels)) if place not in spread]
    return sorted(spread + others[: COUNT - len(spread)])


@dataclass(frozen=True)
class Inputs:
    pixels: np.ndarray  # uint8 (8, size, size, 3)
    labels: list[int] | None  # None: the pictures show none of the classes
    photograph: bytes  # the JPEG of the first one, before preprocessing


def of_records(against: Reference, manifest: Manifest, preprocessing: Preprocessing) -> Inputs:
    """Returns up to eight of the records that the files are compared on."""
    chosen = choose(against.labels)
    decoded = [records.parse(record, manifest.decoded)[0] for record in _records(manifest, against.split, chosen)]
    pixels = np.stack([crop.preprocess_for_eval(each, preprocessing).numpy() for each in decoded])
    return Inputs(pixels, [int(each) for each in against.labels[chosen]], _photograph(decoded[0], manifest.decoded))


def synthetic_inputs(preprocessing: Preprocessing) -> Inputs:
    """Draws eight pictures of the synthetic set, for bundles without photographs."""
    pictures = [synthetic.draw(f"golden/{label}", label, seed=0) for label in range(COUNT)]
    prepared = (crop.preprocess_for_eval(tf.constant(picture), preprocessing) for picture in pictures)
    pixels = np.stack([image.numpy() for image in prepared])
    return Inputs(pixels, None, pictures[0])


def write(folder: Path, inputs: Inputs, paths: dict[str, Path], quantize: dict[str, str]) -> None:
    """Writes `folder`/golden.

    Args:
        paths: finished model files by name.
        quantize: the quantization of each file, by name.
    """
    pixels = inputs.pixels
    for number, image in enumerate(pixels):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", optimize=True)
        files.write_bytes(folder / FOLDER / f"{number}.png", buffer.getvalue())
    files.write_bytes(folder / FOLDER / INPUTS, pixels.tobytes())
    files.write_bytes(folder / FOLDER / PHOTO, inputs.photograph)
    files.write_bytes(folder / FOLDER / PHOTO_TURNED, turned(inputs.photograph))
    expected = {}
    for name, path in paths.items():
        answers = raw(path, pixels)
        little = answers.astype(answers.dtype.newbyteorder("<"))
        files.write_bytes(folder / FOLDER / _expected(name), little.tobytes())
        expected[name] = {
            "file": _expected(name),
            "dtype": answers.dtype.name,
            "shape": list(answers.shape),
            "tolerance": SELF_TEST_TOLERANCES[quantize[name]],
            "top1": [int(each) for each in answers.argmax(axis=1)],
        }
    files.write_json(
        folder / FOLDER / VECTORS,
        {
            "count": len(pixels),
            "labels": inputs.labels,
            "inputs": {"file": INPUTS, "dtype": "uint8", "shape": list(pixels.shape)},
            "expected": expected,
            "photo": PHOTO,
            "photo_turned": PHOTO_TURNED,
        },
    )


def turned(photograph: bytes) -> bytes:
    """Returns a JPEG of the same photograph that is upright only if a decoder applies its EXIF orientation, TURN."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[decode.EXIF_ORIENTATION] = TURN
    stored = Image.open(io.BytesIO(photograph)).transpose(Image.Transpose.ROTATE_90)  # counter-clockwise
    stored.save(buffer, "JPEG", quality=decode.JPEG_QUALITY, subsampling=0, exif=exif)
    return buffer.getvalue()


def raw(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Returns the raw outputs of a file for uint8 pixels (n, size, size, 3): float32 probabilities, or uint8 steps."""
    predictor = inference.load(path)
    runtime = predictor.runtime
    if isinstance(runtime, TfliteRuntime):
        return np.concatenate([runtime.raw(image[None]).copy() for image in pixels])
    return predictor.predict(pixels)


def check(folder: Path, name: str, entry: dict[str, Any]) -> float:
    """Runs one file on the golden inputs.

    Returns:
        The largest difference of a probability from the expected one.

    Raises:
        CheckFailed: the difference is above the tolerance.
        InputError: the vectors are incomplete.
    """
    place = folder / FOLDER
    try:
        golden = json.loads((place / VECTORS).read_text())
        wanted = golden["expected"][name]
        vectors = _expected(name)
        pixels = np.fromfile(place / INPUTS, np.uint8).reshape(golden["inputs"]["shape"])
        expected = np.fromfile(place / vectors, np.dtype(wanted["dtype"]).newbyteorder("<")).reshape(wanted["shape"])
        predictor = inference.load(folder / name)
        runtime = predictor.runtime
        size, classes = runtime.image_size, runtime.classes
        if len(pixels) < 1 or pixels.shape[1:] != (size, size, 3) or expected.shape != (len(pixels), classes):
            raise ValueError(f"inputs {pixels.shape} and outputs {expected.shape} are not those of {name}")
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{place} cannot be read ({type(error).__name__}: {error}); export again") from None
    _check_class_map(predictor, pixels, entry)
    scale, tolerance = entry["output"]["scale"], SELF_TEST_TOLERANCES[entry["quantize"]]
    difference = float(scale * np.abs(raw(folder / name, pixels).astype(np.float64) - expected).max())
    if not difference <= tolerance:
        raise CheckFailed(
            f"{name} fails its golden self-test: it differs by {difference:.2e} from {place / vectors}, and "
            f"{tolerance:.0e} is allowed"
        )
    return difference


def _check_class_map(predictor: Predictor, pixels: np.ndarray, entry: dict[str, Any]) -> None:
    """Raises CheckFailed if a file has a class map that does not give the probabilities of the file."""
    grid = predictor.runtime.grid
    if grid is None:
        return
    probabilities, maps = predictor.predict_with_class_map(pixels)
    limits = entry.get(class_map.NAME, {}).get("logit_range")
    difference = float(np.abs(class_map.probabilities(maps, limits, divisor=grid.divisor) - probabilities).max())
    tolerance = MAP_TOLERANCES[entry["quantize"]]
    if not difference <= tolerance:
        raise CheckFailed(
            f"the class map of {predictor.path.name} does not give the probabilities of the file: they differ by "
            f"{difference:.2e}, and {tolerance:.0e} is allowed"
        )


def _records(manifest: Manifest, split: str, places: list[int]) -> list[tf.Tensor]:
    """Reads records of a split by their indices in the order of the shards. The other records are not decoded."""
    paths = [str(shard.path) for shard in manifest.shards_of(split)]
    numbered = enumerate(tf.data.TFRecordDataset(paths).take(max(places) + 1))
    return [record for place, record in numbered if place in places]


def _photograph(photograph: tf.Tensor, decoded: bool) -> bytes:
    """Encodes a record's photograph as a file."""
    return (tf.io.encode_jpeg(photograph, quality=95) if decoded else photograph).numpy()
