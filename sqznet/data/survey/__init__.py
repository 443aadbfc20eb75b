"""Checks a data set: duplicates, leaks between splits, likely label errors. Writes dataset.html.

`photographs` reads every photograph, `measures` measures it, `duplicates` finds pairs, `label_errors` ranks labels by
the probabilities of a trained model, and `report` writes the files.
"""
