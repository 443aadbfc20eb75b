"""Hyper-parameter search over the fields of a recipe, with KerasTuner."""
