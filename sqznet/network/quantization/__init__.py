"""Quantizes networks for int8 files and .sqz files.

calibration.py  the inputs of each layer on training photographs; GPTQ error compensation; bias correction
sensitivity.py  the divergence that an error in each layer causes (Hessian-based)
bit_price.py    the Lagrange multiplier of rate-distortion optimisation: nats of divergence per bit
rounding.py     kernels to integers at a given price, for .sqz files
pruning.py      magnitude pruning with one budget for all layers
int8.py         scales, ranges and zero points of int8 files; cross-layer equalization
"""
