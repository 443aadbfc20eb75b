"""Contains run folders, checkpoints and the choice of the best epoch. The command lists and compares runs."""
