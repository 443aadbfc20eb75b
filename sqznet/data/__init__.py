"""Photographs to TFRecord shards, and shards to batches.

`sources` says which photographs there are, `images` makes each a JPEG that every decoder reads, `shards` plans and
writes the shards, `build` runs that over processes, `manifest` describes the result, `records` is the schema,
`preprocess` and `pipeline` turn records into batches.
"""
