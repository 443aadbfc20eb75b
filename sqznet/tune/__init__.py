"""A search over the fields of a recipe, on KerasTuner."""
