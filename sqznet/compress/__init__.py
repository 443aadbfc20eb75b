"""Compresses a trained network to a `.sqz` file, and decodes such files. docs/compress.md explains the method."""
