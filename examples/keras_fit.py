"""Fine-tunes SqueezeNet with Keras's `fit`: python examples/keras_fit.py photos"""

import argparse

import sqznet  # before Keras: sqznet makes TensorFlow faster on most processors
import keras

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("photographs", nargs="?", default="photos", help="folder with one folder for each class")
parser.add_argument("--shards", default="data/mine", help="folder of the shards, which are built first")
parser.add_argument("--weights", default="imagenet", help="imagenet, a file of weights, or an empty text for none")
parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--out", default="mine.keras", help="file of the trained network")
args = parser.parse_args()

shards = sqznet.build_shards(args.photographs, args.shards)
train = sqznet.dataset(shards.folder, "train", batch_size=16, image_size=args.size)
val = sqznet.dataset(shards.folder, "val", image_size=args.size)

# The last layer gets one output for each class, and starts from random weights.
model = sqznet.SqueezeNet(weights=args.weights or None, classes=len(shards.classes), image_size=args.size)
model.compile(keras.optimizers.SGD(0.001, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(train, validation_data=val, epochs=args.epochs)

classifier = sqznet.Classifier.from_keras(model, shards.classes, image_size=args.size, data=shards.folder)
print(classifier.evaluate())
classifier.save(args.out)
