"""Several workers on one machine."""
