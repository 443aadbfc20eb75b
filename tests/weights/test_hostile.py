"""Damaged and hostile files: refused with a clear error, at once, in little memory; no importer ever crashes."""

from __future__ import annotations

import io
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sqznet.core.errors import InputError
from sqznet.weights import caffemodel, convolutions, deep_compression, formats, mxnet, npz, onnx_graph, safetensors
from tests.weights import writers
from tests.weights.conftest import random_convolutions
from tests.weights.writers import field, varint

MUTATIONS = 2000
READERS = {
    "Deep Compression": deep_compression.read,
    "npz": npz.read,
    "caffemodel": caffemodel.read,
    "caffemodel V1": caffemodel.read,
    "MXNet params": mxnet.read,
    "safetensors": safetensors.read,
    "ONNX": onnx_graph.read,
    # Other names, and layers that say what they are connected to.
    "caffemodel of FireNet": caffemodel.read,
    "MXNet params of FireNet": mxnet.read,
    "npz of FireNet": npz.read,
    "safetensors with prefixes": safetensors.read,
}


def write(name: str) -> bytes:
    if name == "Deep Compression":  # has a thousand classes
        return writers.deep_compression(random_convolutions(classes=1000))
    made = random_convolutions()
    others = {
        "caffemodel of FireNet": lambda: writers.caffemodel(made, name=writers.firenet_name, connected=True),
        "MXNet params of FireNet": lambda: writers.mxnet(
            made, name=lambda index: writers.firenet_name(list(made)[index]).replace("conv_final", "conv10-new")
        ),
        "npz of FireNet": lambda: writers.npz(made, writers.firenet_name),
        "safetensors with prefixes": lambda: writers.safetensors(
            made, lambda ours: f"module.{writers.torchvision_name(ours)}".replace("classifier.1", "head")
        ),
    }
    return others[name]() if name in others else writers.WRITERS[name](made)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut, repeated, overwritten or flipped, more often near an end, where the structure is."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        ends = [min(200, len(changed)), min(5000, len(changed)), len(changed)]
        place = int(rng.integers(0, max(1, ends[rng.integers(0, 3)])))
        if rng.random() < 0.3:
            place = len(changed) - 1 - min(place, len(changed) - 1)
        kind = rng.integers(0, 6)
        if kind == 0:
            del changed[place:]
        elif kind == 1:
            del changed[place : place + int(rng.integers(1, 64))]
        elif kind == 2:
            changed[place:place] = changed[place : place + int(rng.integers(1, 64))]
        elif kind == 3:
            extreme = [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 2**62]
            number = extreme[rng.integers(0, len(extreme))]
            size = 8 if number > 0xFFFFFFFF or rng.random() < 0.5 else 4
            changed[place : place + size] = number.to_bytes(size, "little")
        elif kind == 4:
            changed[place : place + 8] = rng.bytes(8)
        elif len(changed):
            changed[min(place, len(changed) - 1)] ^= 1 << int(rng.integers(0, 8))
        if not changed:
            break
    return bytes(changed)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_no_mutated_file_crashes_an_importer(name):
    """Refused with an error of ours, or read as a whole and finite SqueezeNet: nothing else."""
    content, rng = write(name), np.random.default_rng(0)
    refused = 0
    for number in range(MUTATIONS):
        changed = mutated(content, rng)
        try:
            found = READERS[name](changed, "weights")
            convolutions.check(found, "weights")
        except InputError as error:
            assert str(error).startswith("weights"), f"mutation {number}: {error}"
            refused += 1
    # Most of a file is values, any of which may be another; what is left must still be noticed.
    assert refused > MUTATIONS / 4


@pytest.mark.parametrize("name", READERS)
def test_a_file_cut_short_anywhere_is_refused(name):
    content = write(name)
    for share in (0.999, 0.9, 0.5, 0.1, 0.001):
        with pytest.raises(InputError):
            found = READERS[name](content[: int(share * len(content))], "weights")
            convolutions.check(found, "weights")


def positions_past_the_end() -> bytes:
    content = bytearray(write("Deep Compression"))
    (count,) = struct.unpack_from("<I", content)
    start = 26 * 4 + 256 * 4 + 64 * 4 + count
    content[start : start + (count + 1) // 2] = b"\xff" * ((count + 1) // 2)
    return bytes(content)


def array_of_objects() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{"conv1/weights": np.array([{}], object)})
    return buffer.getvalue()


def zip_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(3):
            archive.writestr(f"conv{index}/weights.npy", bytes(100 * 2**20))
    return buffer.getvalue()


def huge_shape() -> bytes:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("conv1/weights.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    return buffer.getvalue()


def mxnet_counts(count: int, dimensions: int, side: int) -> bytes:
    array = struct.pack("<IiIqq", 0xF993FAC9, 0, dimensions, side, side)
    return struct.pack("<QQQ", 0x112, 0, count) + array + bytes(12)


def many_members() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index in range(20_000):
            archive.writestr(str(index), b"")
    return buffer.getvalue()


def safetensors_of(shape: list[int], size: int = 0) -> bytes:
    header = json.dumps({"x.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


def caffemodel_of(shape: list[int], values: int = 0) -> bytes:
    dims = field(7, field(1, b"".join(map(varint, shape))))
    layer = field(1, b"conv1") + field(2, b"Convolution") + field(7, dims + field(5, bytes(4 * values))) * 2
    return field(100, layer)


HOSTILE = {
    "a .net whose positions run past the layer": (
        positions_past_the_end,
        "the positions of conv1 run to place .*, and it has 1728 weights",
    ),
    "an npz with an array of objects": (array_of_objects, "holds Python objects, which are not loaded"),
    "an npz that unpacks to 300 MB": (zip_bomb, "unpacks to more than 50,331,648 bytes"),
    "an npz with a shape of 4 TB": (huge_shape, "has 0 bytes of data, which float32"),
    "a safetensors header of 2 GB": (
        lambda: struct.pack("<Q", 2**31) + b'{"a"',
        "a header of 2,147,483,648 bytes, where a SqueezeNet's has about 5,000",
    ),
    "a safetensors header of 1 EB": (lambda: struct.pack("<Q", 2**60) + b"{", "a header of 1,152,921,504,606,846,976"),
    "a safetensors file with offsets past its end": (
        lambda: (lambda header: struct.pack("<Q", len(header)) + header)(
            json.dumps({"x": {"dtype": "F32", "shape": [2**30], "data_offsets": [0, 2**32]}}).encode()
        ),
        "is damaged",
    ),
    "MXNet arrays without end": (lambda: mxnet_counts(2**63, 2, 10), "it has 9,223,372,036,854,775,808 arrays"),
    "an MXNet array of 2^62 bytes": (lambda: mxnet_counts(1, 2, 2**30), "is cut short"),
    "an MXNet array of negative size": (lambda: mxnet_counts(1, 2, -5), "is cut short|values do not make up"),
    "an MXNet array of 4 billion dimensions": (lambda: mxnet_counts(1, 2**32 - 1, 1), "4294967295 dimensions"),
    "a caffemodel that claims 2 GB": (
        lambda: b"\x0a\x01x" + b"\xa2\x06\xff\xff\xff\xff\x07",
        "is damaged: a field of kind 2 does not fit at byte 10",
    ),
    "a caffemodel of another network": (
        lambda: writers.field(
            100, writers.field(1, b"fc6") + writers.field(2, b"InnerProduct") + writers.field(7, b"") * 2
        ),
        "'fc6' is a layer of type InnerProduct with 2 arrays",
    ),
    "a caffemodel of a million empty layers": (lambda: b"\xa2\x06\x00" * 10**6, "has more parts than the file of any"),
    "a caffemodel of a layer of a million empty arrays": (
        lambda: field(100, b"\x3a\x00" * 10**6),
        "has more parts than the file of any SqueezeNet",
    ),
    "a caffemodel with an array of a million dimensions": (
        lambda: caffemodel_of([1] * 10**6, 1),
        "has more parts than the file of any SqueezeNet",
    ),
    "a caffemodel with an array of a hundred dimensions": (
        lambda: caffemodel_of([1] * 100, 1),
        "1 values do not make up",
    ),
    "a caffemodel with an array of no size": (lambda: caffemodel_of([0, 2**62, 2**62]), "0 values do not make up an"),
    "an ONNX file of a million empty nodes": (
        lambda: b"\x08\x08" + field(7, b"\x0a\x00" * 10**6),
        "has more parts than the file of any SqueezeNet",
    ),
    "a safetensors array of a hundred dimensions": (lambda: safetensors_of([1] * 100, 4), "1 values do not make up an"),
    "a safetensors array of no size": (lambda: safetensors_of([0, 2**40, 2**40]), "is damaged"),
    "MXNet arrays by the million": (
        lambda: struct.pack("<QQQ", 0x112, 0, 10**6) + struct.pack("<IIiiif", 1, 1, 1, 0, 0, 0) * 10**6,
        "it has 1,000,000 arrays, where 52 are expected",
    ),
    "an npz of twenty thousand members": (many_members, "an archive that NumPy has not written"),
    "an ONNX file that claims 2 GB": (
        lambda: b"\x08\x08\x3a\xff\xff\xff\xff\x07",
        "is damaged: a field of kind 2 does not fit at byte 8",
    ),
    "a pickle": (lambda: pickle.dumps({"conv1": print}), "is a Python pickle, which is not loaded"),
}

MEASURE = """
import sys, time
from pathlib import Path
from sqznet.core.errors import InputError
from sqznet.weights import convolutions, formats
started = time.process_time()
try:
    convolutions.check(formats.read(Path(sys.argv[1]))[1], sys.argv[1])
    message = "accepted"
except InputError as error:
    message = str(error)
seconds = time.process_time() - started
# Linux's own count: getrusage's would begin with what the test process had when it forked.
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.is_file() else ["VmHWM: 0 kB"]
(peak,) = (int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
print(seconds, peak, message, sep="|")
"""


def measured(path: Path) -> tuple[float, float, str]:
    """Seconds to refuse the file, the most bytes of memory that a whole process took, and the message."""
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    seconds, memory, message = done.stdout.split("|", 2)
    return float(seconds), float(memory), message


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_refused_at_once_and_in_little_memory(what, tmp_path):
    make, message = HOSTILE[what]
    path = tmp_path / "weights"
    path.write_bytes(make())
    with pytest.raises(InputError, match=message):
        convolutions.check(formats.read(path)[1], str(path))
    seconds, memory, _ = measured(path)
    assert seconds < 1  # in practice hundredths
    assert memory < 200e6


def test_an_oversized_file_is_not_even_read(tmp_path):
    path = tmp_path / "weights"
    with path.open("wb") as file:
        file.truncate(3 * 2**30)  # sparse
    seconds, memory, message = measured(path)
    assert "has 3,221,225,472 bytes, and SqueezeNets have about 5,000,000" in message
    assert seconds < 1 and memory < 200e6


def test_reading_weights_loads_neither_tensorflow_nor_keras(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(write("caffemodel"))
    code = (
        "import sys; from pathlib import Path; from sqznet import weights; weights.read(Path(sys.argv[1])); "
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_of_the_importers_unpickles():
    folder = Path(formats.__file__).parent
    for module in folder.glob("*.py"):
        assert "import pickle" not in module.read_text() and "allow_pickle=True" not in module.read_text()
