"""The .sqz format: integer kernels with entropy coding (rANS). docs/sqz.md specifies it."""
