"""sqznet: train SqueezeNet on TFRecord shards and export it for phones, each file verified in its own runtime.

Importing this package imports nothing heavy; every command is a module:
`sqznet.data`, `sqznet.weights`, `sqznet.train`, `sqznet.tune`, `sqznet.launch`, `sqznet.runs`, `sqznet.evaluate`,
`sqznet.predict`, `sqznet.export`, `sqznet.compress`, `sqznet.benchmark`, `sqznet.serve`.
"""

__version__ = "0.2.0"
