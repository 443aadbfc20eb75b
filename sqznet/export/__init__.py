"""Exports a trained model to SavedModel, TFLite and ONNX files.

`saved_model`, `tflite`, `onnx` and `onnx_int8` write one format each. `verify` reloads each file in its own runtime and
compares it with the Keras model. `bundle` puts the verified files in place with labels, manifest, report and card.
"""
