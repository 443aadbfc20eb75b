"""Fine-tunes SqueezeNet with a training loop of your own: python examples/custom_loop.py photos"""

import argparse

import sqznet  # before TensorFlow: sqznet makes it faster on most processors
import tensorflow as tf

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("photographs", nargs="?", default="photos", help="folder with one folder for each class")
parser.add_argument("--weights", default="imagenet", help="imagenet, a file of weights, or an empty text for none")
parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
args = parser.parse_args()
shards = sqznet.build_shards(args.photographs, "data/mine")
train = sqznet.dataset(shards.folder, batch_size=16, image_size=args.size)
model = sqznet.SqueezeNet(weights=args.weights or None, classes=len(shards.classes), classifier_activation=None)
loss_of = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
optimizer = tf.keras.optimizers.SGD(0.001, momentum=0.9)


def step(images: tf.Tensor, labels: tf.Tensor) -> float:
    with tf.GradientTape() as tape:
        loss = loss_of(labels, model(images, training=True))
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    return float(loss)


for epoch in range(1, 5):
    losses = [step(images, labels) for images, labels in train]
    print(f"epoch {epoch}: mean loss {sum(losses) / len(losses):.3f}")
print(sqznet.Classifier.from_keras(model, shards.classes, image_size=args.size).evaluate(shards.folder))
