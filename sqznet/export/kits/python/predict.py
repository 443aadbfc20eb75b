"""Prints the five likeliest classes of photographs, with a model of this bundle or with a .tflite or .onnx file alone.

If the model has a threshold, and no class has this probability, the first line says "not sure".

    python predict.py photo.jpg ...
    python predict.py --model=FILE photo.jpg ...

Needs NumPy, Pillow, and LiteRT (ai-edge-litert) for a .tflite file or ONNX Runtime (onnxruntime) for an .onnx file.
"""

import argparse
from pathlib import Path

import model_file
import photograph


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--model", type=Path, default=Path(__file__).resolve().parent.parent, help="a file or a bundle")
    args = parser.parse_args()
    path = model_file.find(args.model) if args.model.is_dir() else args.model
    run, contract, labels = model_file.load(path)
    threshold = (contract.get("threshold") or {"value": 0})["value"]
    for photo in args.photos:
        probabilities = run(photograph.read(photo, contract["preprocessing"]))
        print(f"{photo}, with {path.name}{'' if probabilities.max() >= threshold else ': not sure'}")
        for index in (-probabilities).argsort(kind="stable")[:5]:
            print(f"  {probabilities[index]:.4f} {labels[index]}")


if __name__ == "__main__":
    main()
