"""Defines the network, the files that contain a network, and the methods that make a network smaller."""
