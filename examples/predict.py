"""Classifies photographs: python examples/predict.py squeezenet-v1.1 photos

The model can be a run folder, a .keras, .tflite, .onnx or .sqz file, a bundle, or the name of published weights.
"""

import argparse

import sqznet

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", nargs="?", default="squeezenet-v1.1")
parser.add_argument("photographs", nargs="?", default="photos", help="a folder")
args = parser.parse_args()

classifier = sqznet.load(args.model)
print(f"{args.model}: {len(classifier.classes)} classes, {classifier.image_size} x {classifier.image_size} pixels")

predictions = classifier.predict(args.photographs, top=3)
for path, ranking in zip(predictions.paths, predictions, strict=True):
    print(f"{path}: " + ", ".join(f"{each.label} {each.probability:.1%}" for each in ranking))
for path, reason in predictions.failures.items():
    print(f"{path}: {reason}")
