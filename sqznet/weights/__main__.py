"""Import published SqueezeNet weights as a Keras model that takes RGB pixels 0..255.

  python -m sqznet.weights --list
  python -m sqznet.weights --weights=squeezenet-v1.1 --out=models/v1.1.keras
      by name: fetched once, checked, and kept in SQZNET_CACHE (default ~/.cache/sqznet)
  python -m sqznet.weights --source=squeezenet_v1.0.caffemodel --out=models/v1.0.keras
  python -m sqznet.weights --source=squeezenet.onnx --input=torchvision --out=models/v1.1.keras

Reads Deep Compression .net, Caffe .caffemodel and .npz, MXNet .params, PyTorch .safetensors and ONNX files, told apart
by their content, without Caffe, MXNet or PyTorch. Layers may have the names of Caffe's release, FireNet or torchvision,
behind prefixes such as module., and a last layer of another name is known by its shape. A name or file of weights will
also do wherever a model is asked for, as in `python -m sqznet.predict --model=squeezenet-v1.1 photo.jpg`.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqznet import recipes
from sqznet.core import cli, console
from sqznet.core.errors import InputError
from sqznet.images import geometry

if TYPE_CHECKING:
    from sqznet import weights


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.weights", __doc__)
    parser.add_argument("--source", "--weights", type=Path, help="file of weights, or a name of --list")
    parser.add_argument("--out", type=Path, help="the .keras file to write")
    parser.add_argument("--list", action="store_true", help="show the names, with size, licence and stated accuracy")
    parser.add_argument(
        "--input", help="pixels it was trained on: caffe, torchvision, article or raw; default what the format implies"
    )
    parser.add_argument("--activation", choices=recipes.ACTIVATIONS, help="where the file does not say; default relu")
    parser.add_argument(
        "--image_size", type=cli.positive, help="side of the square it shall see, in pixels; default as published"
    )
    parser.add_argument(
        "--labels", type=Path, help="class names, one a line (daisy or 0:daisy), unless they are ImageNet's 1,000"
    )
    geometry.add_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.list:
        _print_catalogue()
        return 0
    if args.source is None or args.out is None:
        raise InputError("give --source (a file, or a name of --list) and --out (the .keras file to write)")
    if args.out.suffix != ".keras" or args.out.is_dir():
        raise InputError(f"--out={args.out} must name a .keras file, such as model.keras")
    from sqznet import weights

    options = weights.Options(args.input, args.activation, args.image_size, _read_labels(args.labels))
    published = weights.read(args.source, options)  # before TensorFlow: what is refused is refused at once
    published = _with_geometry(published, geometry.given(args))

    from sqznet.core import startup
    from sqznet.network import keras_file

    startup.load_tensorflow()
    model = weights.build(published)
    keras_file.save(model, published.card, args.out)
    network, card = published.network, published.card
    assert card.weights is not None
    bypass = "" if network.bypass == "none" else f", {network.bypass} bypass"
    console.result(
        f"SqueezeNet {network.arch}, {network.activation}{bypass}, {model.count_params():,} parameters, "
        f"{network.classes:,} classes; read as {card.weights['format']}, trained on {published.convention.about}"
    )
    console.result(f"input: RGB 0..255; {card.preprocessing.steps}")
    console.result(f"written to {args.out}")
    console.next_step("sqznet.train", "--recipe=finetune", f"--init_weights={args.out}", "--data=SHARDS")
    return 0


def _with_geometry(published: weights.Published, given: dict[str, Any]) -> weights.Published:
    """The same weights with photographs scaled and cut as flags say, which the card keeps."""
    if not given:
        return published
    card = published.card
    changed = dataclasses.replace(
        card,
        preprocessing=geometry.applied(card.preprocessing, given),
        weights={**(card.weights or {}), "geometry_override": given},
    )
    return dataclasses.replace(published, card=changed)


def _read_labels(path: Path | None) -> tuple[str, ...] | None:
    if path is None:
        return None
    from sqznet.data.sources import class_names

    try:
        named, _ = class_names.read(path)  # by the rule for the labels.txt of shards
    except OSError as error:
        raise InputError(f"--labels={path} cannot be read: {error.strerror}") from None
    return tuple(named[label] for label in sorted(named))


def _print_catalogue() -> None:
    from sqznet.weights import catalogue

    entries = catalogue.CATALOGUE
    rows = [[name, f"{entry.bytes:,}", entry.accuracy, entry.licence] for name, entry in entries.items()]
    console.table(["name", "bytes", "top-1, top-5 stated for ImageNet val (n = 50,000)", "licence"], rows)
    for name, entry in entries.items():
        console.result(f"{name}: {entry.url}")


if __name__ == "__main__":
    cli.run(main)
