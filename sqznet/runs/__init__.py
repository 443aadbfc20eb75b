"""Run folders, checkpoints and the best epoch; the command lists and compares runs."""
