"""The network, the files that hold one, and the changes that make it smaller."""
