"""Measures the accuracy of a model on labelled records."""
