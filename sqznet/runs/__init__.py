"""Run folders, checkpoints and the best epoch. The command lists and compares runs."""
