"""Lists published weights by name, with address, hash, licence and stated accuracy.

Hashes, sizes and addresses of the Caffe files are those of OpenVINO's Open Model Zoo (models/public/squeezenet1.0 and
1.1, model.yml). The authors measured the accuracy on ImageNet's validation set, n = 50,000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqznet.core import console

_RELEASE = "https://github.com/forresti/SqueezeNet/raw/a47b6f13d30985279789d08053d37013d67d131b/"
_COMPRESSED = "https://github.com/songhan/SqueezeNet-Deep-Compression/raw/5623e3cdbe1fcd83328c61ce2ee42c34ed319aa3/"


@dataclass(frozen=True)
class Publication:
    """Describes a file of weights that can be downloaded."""

    url: str
    bytes: int
    sha256: str
    licence: str
    accuracy: str  # stated by the authors: top-1, top-5

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    def to_dict(self) -> dict[str, Any]:
        return {"url": self.url, "licence": self.licence, "stated_accuracy": self.accuracy}


CATALOGUE = {
    "squeezenet-v1.0": Publication(
        _RELEASE + "SqueezeNet_v1.0/squeezenet_v1.0.caffemodel",
        5_001_403,
        "9ff8035aada1f9ffa880b35252680d971434b141ec9fbacbe88309f0f9a675ce",
        "BSD-2-Clause",
        "57.5 %, 80.3 %",
    ),
    "squeezenet-v1.0-compressed": Publication(
        _COMPRESSED + "compressed_SqueezeNet.net",
        675_763,
        "e4ab6960ae8cd81505e1c2136921201507e930966c53deaf15862a395b3a3261",
        "none stated",
        "57.5 %, 80.3 %",
    ),
    "squeezenet-v1.1": Publication(
        _RELEASE + "SqueezeNet_v1.1/squeezenet_v1.1.caffemodel",
        4_950_080,
        "72b912ace512e8621f8ff168a7d72af55910d3c7c9445af8dfbff4c2ee960142",
        "BSD-2-Clause",
        "57.5 %, 80.3 %",
    ),
}


def print_all() -> None:
    """Prints the catalogue."""
    rows = [[name, f"{each.bytes:,}", each.accuracy, each.licence] for name, each in CATALOGUE.items()]
    console.table(["name", "bytes", "top-1, top-5 stated for ImageNet val (n = 50,000)", "licence"], rows)
    for name, each in CATALOGUE.items():
        console.result(f"{name}: {each.url}")
