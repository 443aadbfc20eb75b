"""Fewer bits for each weight: calibration, sensitivity, rounding with error compensation, int8 ranges."""
