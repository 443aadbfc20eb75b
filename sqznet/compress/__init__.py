"""Compresses a trained network to a `.sqz` file, and decodes one; docs/compress.md explains the method."""
