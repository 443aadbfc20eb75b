"""Encoder and reference decoder: lossless, small, and safe for damaged files."""

from __future__ import annotations

import ast
import dataclasses
import random
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from sqznet.network.sqz import decoder, encoder
from tests.fuzz import mutate

HEADER_FIELDS = [field.name for field in dataclasses.fields(decoder.Contents) if field.name != "layers"]
ALLOCATED = 100_000_000  # bytes
SLOW = 10.0  # seconds of the processor; a whole file takes a third of one


def network(
    arch="v1.1", activation="relu", bypass="none", padding=0, names=("ball", "house", "star"), classes=3
) -> tuple[decoder.Contents, dict[str, encoder.Integers]]:
    """A network of random integers, whose input channels differ in entropy."""
    draw = np.random.default_rng(5)
    integers, layers = {}, {}
    for name, shape in decoder.shapes(arch, bypass, classes).items():
        scale = draw.uniform(0.1, 3, (1, 1, shape[2], 1))
        values = np.round(draw.laplace(size=shape) * scale).astype(np.int64)
        integers[name] = encoder.Integers(values, np.float32(draw.uniform(0.001, 0.1)))
        layers[name] = (integers[name].kernel, draw.normal(size=shape[3]).astype(np.float16).astype(np.float32))
    means, deviations = (123.0, 117.0, 104.0), (1.0, 58.5, 57.375)
    made = decoder.Contents(
        arch, activation, bypass, padding, classes, names, 64, "squash", 72, "bicubic", False, means, deviations,
        "of nowhere", layers,
    )  # fmt: skip
    return made, integers


@pytest.mark.parametrize("arch", decoder.ARCHS)
@pytest.mark.parametrize("bypass", decoder.BYPASSES)
@pytest.mark.parametrize(
    ("activation", "padding", "names", "classes"),
    [("relu", 0, ("ball", "house", "star"), 3), ("elu", 1, None, 1), ("relu", 1, "imagenet", 1000)],
)
def test_what_is_decoded_is_what_was_encoded(arch, bypass, activation, padding, names, classes):
    made, integers = network(arch, activation, bypass, padding, names, classes)
    found = decoder.decode(encoder.encode(made, integers))
    for name in HEADER_FIELDS:
        assert getattr(found, name) == getattr(made, name), name
    assert list(found.layers) == list(made.layers)
    for name, (kernel, bias) in made.layers.items():
        assert found.layers[name][0].tobytes() == kernel.tobytes(), name
        assert found.layers[name][1].tobytes() == bias.tobytes(), name


def test_a_kernel_of_zeros_and_one_of_thousands_of_steps_are_exact():
    made, integers = network()
    integers["conv10"] = encoder.Integers(np.zeros_like(integers["conv10"].values), np.float32(0.5))
    wide = np.random.default_rng(0).integers(-2000, 2000, integers["fire9_expand3x3"].values.shape)
    integers["fire9_expand3x3"] = encoder.Integers(wide, np.float32(0.001))
    found = decoder.decode(encoder.encode(made, integers))
    assert (found.layers["conv10"][0] == 0).all()
    assert (found.layers["fire9_expand3x3"][0] == integers["fire9_expand3x3"].kernel).all()


def test_a_file_is_hardly_larger_than_the_entropy_of_its_integers():
    made, integers = network()
    bits = 0.0
    for each in integers.values():
        counts = np.unique(each.values, return_counts=True)[1]
        bits -= float((counts * np.log2(counts / counts.sum())).sum())
    biases = 2 * sum(bias.size for _, bias in made.layers.values())
    assert len(encoder.encode(made, integers)) < bits / 8 + biases  # tables by channel save more than tables take


def test_the_decoder_needs_numpy_only():
    tree = ast.parse(Path(decoder.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "dataclasses", "numpy", "struct", "typing", "zlib"}


def with_checksum(content: bytes) -> bytes:
    """With the correct length and checksum."""
    body = content[decoder.ENVELOPE.size :]
    return decoder.ENVELOPE.pack(decoder.MAGIC, decoder.ENVELOPE.size + len(body), zlib.crc32(body)) + body


def test_ten_thousand_damaged_files_are_refused():
    """The checksum finds the damage before anything is decoded."""
    content = encoder.encode(*network())
    rng = random.Random(0)
    for _ in range(10_000):
        damaged = mutate(content, rng)
        if damaged != content:
            with pytest.raises(decoder.Damaged):
                decoder.decode(damaged)


def test_crafted_files_neither_hang_nor_fill_memory():
    """With a correct checksum, so that the decoder's own checks have to refuse them."""
    content = encoder.encode(*network())
    headers = content[: len(content) // 40]  # where sizes are
    rng = random.Random(1)
    refused = 0
    tracemalloc.start()
    for number in range(15):
        some = mutate(headers, rng) + content[len(headers) :] if number % 3 else mutate(content, rng)
        began = time.process_time()
        try:
            found = decoder.decode(with_checksum(some))
            assert all(np.isfinite(kernel).all() for kernel, _ in found.layers.values())
        except decoder.Damaged:
            refused += 1
        assert time.process_time() - began < SLOW
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < ALLOCATED
    assert refused > 8


@pytest.mark.parametrize(
    ("offset", "layout", "value", "message"),
    [
        (16, "<B", 2, "of version 2 of the format, and this decoder reads version 1"),
        (17, "<B", 7, "choice 7 of .*v1.0"),
        (52, "<H", 0xFFFF, "65535 classes"),
        (24, "<H", 0, "images of 0 pixels"),
        (26, "<H", 1, "pixels cut from 1"),
        (40, "<f", float("nan"), "means and deviations"),
        (40, "<f", 0.0, "means and deviations"),
        (55, "<I", 1 << 31, "bytes are due at byte"),
    ],
)
def test_an_invalid_header_is_refused(offset, layout, value, message):
    content = bytearray(encoder.encode(*network()))
    struct.pack_into(layout, content, offset, value)
    with pytest.raises(decoder.Damaged, match=message):
        decoder.decode(with_checksum(bytes(content)))


def test_bytes_after_the_last_symbol_are_refused():
    content = encoder.encode(*network())
    for tail in (b"\0", b"\0\0"):
        with pytest.raises(decoder.Damaged, match=r"an odd byte is left|do not end where it ends"):
            decoder.decode(with_checksum(content + tail))
