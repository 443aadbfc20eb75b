"""Searches hyper-parameters over the fields of a recipe, with KerasTuner."""
