"""Reads and writes the .sqz format: integer kernels with entropy coding (rANS). docs/sqz.md specifies the format."""
