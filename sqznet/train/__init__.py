"""Trains a model from shards and a recipe."""
