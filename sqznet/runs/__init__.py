"""Runs: their folders, checkpoints and best epochs. The command lists them."""
