"""Accuracy of a model on labelled records."""
