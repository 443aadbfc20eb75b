"""Starts a cluster of processes on one machine."""
