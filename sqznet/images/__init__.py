"""Implements the input contract, which defines how a photograph becomes the input pixels of the network.

In order:
  decode.py         any image file to upright uint8 sRGB pixels; colour.py, tiff.py and signatures.py are parts of it
  preprocessing.py  `Preprocessing`, the settings: how the pixels are scaled and cropped
  resize.py         scaling and cropping in NumPy, for predictions
  crop.py           scaling and cropping in TensorFlow, for training, evaluation and calibration
  geometry.py       the flags that override the settings

The result is uint8 RGB, 0..255, (image_size, image_size, 3). No mean is subtracted, and nothing is divided.
docs/resize.md specifies the contract.
"""
