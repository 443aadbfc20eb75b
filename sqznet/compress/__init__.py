"""A trained network to a `.sqz` file of a fraction of its size, and back; docs/compress.md says how."""
