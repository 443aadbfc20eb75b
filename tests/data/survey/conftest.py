from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from sqznet.data.sources import synthetic

CLASSES = ("ball", "house")
PER_CLASS = {"train": 6, "val": 3}


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path) -> Path:
    """Drawings of two classes, all different."""
    root = tmp_path / "photos"
    for split, count in PER_CLASS.items():
        for label, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                key = f"{split}/{name}/{number}.jpg"
                (root / key).write_bytes(synthetic.draw(key, label, seed=0))
    return root
