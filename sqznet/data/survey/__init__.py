"""Checks a data set: duplicates, leaks between splits, likely label errors. Writes dataset.html.

`photographs` reads and measures every photograph, `duplicates` finds pairs, `label_errors` ranks labels by the
probabilities of a trained model, and `report` writes the files.
"""
