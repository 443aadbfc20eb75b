"""Compresses a trained network to a `.sqz` file, and decodes `.sqz` files. docs/compress.md explains the method."""
