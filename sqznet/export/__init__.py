"""From a trained model to files for other runtimes, each reloaded there and proved before it is kept.

`fold` makes the inference model, `saved_model`, `tflite` and `onnx` write one format each, `verify` reloads and
compares, `bundle` puts the proved files in place with labels and manifest.
"""
