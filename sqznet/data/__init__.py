"""Converts photographs to TFRecord shards, and reads shards as batches.

`sources` lists photographs, `shard_plan` assigns them to shards, `shards` writes one shard, `build` writes all shards
and the manifest, `records` is the TFRecord schema, `pipeline` reads batches, `augment` and `randaugment` change
training images, and `corruption` handles corrupt records.
"""
