"""Import published SqueezeNet weights as a Keras model that takes RGB pixels 0..255.

  python -m sqznet.weights --list
  python -m sqznet.weights --weights=squeezenet-v1.1 --out=models/v1.1.keras
      by name: downloaded once, verified, and cached in SQZNET_CACHE (default ~/.cache/sqznet)
  python -m sqznet.weights --source=squeezenet_v1.0.caffemodel --out=models/v1.0.keras
  python -m sqznet.weights --source=squeezenet.onnx --input=torchvision --out=models/v1.1.keras

The command reads Deep Compression .net, Caffe .caffemodel and .npz, MXNet .params, PyTorch .safetensors and ONNX files.
The command does not need Caffe, MXNet or PyTorch. The command detects the format by content. The layers may have the
names that Caffe's release, FireNet or torchvision use. Prefixes such as `module.` are ignored. A last layer with
another name is identified by its shape. Other commands also take the name or the file as a model: `python -m
sqznet.predict --model=squeezenet-v1.1 photo.jpg`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sqznet import recipes, weights
from sqznet.core import cli, console, startup
from sqznet.core.errors import InputError
from sqznet.images import geometry
from sqznet.weights import catalogue


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.weights", __doc__)
    parser.add_argument("--source", "--weights", type=Path, help="file of weights, or a name of --list")
    parser.add_argument("--out", type=Path, help="the .keras file to write")
    parser.add_argument("--list", action="store_true", help="show the names, with size, licence and stated accuracy")
    parser.add_argument(
        "--input",
        help="pixels of the training: caffe, torchvision, article or raw; default: the usual pixels of the format",
    )
    parser.add_argument(
        "--activation", choices=recipes.ACTIVATIONS, help="activation, if the file states none; default: relu"
    )
    parser.add_argument(
        "--image_size", type=cli.positive, help="side of the input images, in pixels; default: as published"
    )
    parser.add_argument(
        "--labels", type=Path, help="class names, one a line (daisy or 0:daisy), unless they are ImageNet's 1,000"
    )
    geometry.add_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.list:
        catalogue.print_all()
        return 0
    if args.source is None or args.out is None:
        raise InputError("give --source (a file, or a name of --list) and --out (the .keras file to write)")
    if args.out.suffix != ".keras" or args.out.is_dir():
        raise InputError(f"--out={args.out} must name a .keras file, such as model.keras")

    classes = weights.read_labels(args.labels) if args.labels else None
    options = weights.ImportOptions(args.input, args.activation, args.image_size, classes)
    published = weights.read(args.source, options).with_geometry(geometry.given(args))
    startup.load_tensorflow()
    from sqznet.network import keras_file

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


if __name__ == "__main__":
    cli.run(main)
