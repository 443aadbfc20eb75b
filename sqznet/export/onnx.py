"""The ONNX writer: NHWC in, any batch, standard operators only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqznet.export import serving

if TYPE_CHECKING:
    import keras

OPSET = 17  # 2022: read by every runtime still in use


def write(model: keras.Model, path: Path, quantize: str) -> None:
    """Writes an inference model as an .onnx file; float32 or, with quantize="float16", weights of half the size.

    Input `image`, float32 (batch, size, size, 3); output `probabilities`, float32 (batch, classes).
    """
    import onnx
    import tf2onnx

    module = serving.module(model, batch=None)
    proto, _ = tf2onnx.convert.from_function(module.serve, module.serve.input_signature, opset=OPSET)
    _name_ports(proto)
    if quantize == "float16":
        from onnxruntime.transformers.float16 import convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel

        # The ports stay float32: whoever runs the file need not know. The casts come out at the graph's end.
        converted = OnnxModel(convert_float_to_float16(proto, keep_io_types=True))
        converted.topological_sort()
        proto = converted.model
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _name_ports(proto) -> None:
    """tf2onnx names the output after a TensorFlow tensor (`Identity:0`) and the batch `unk__1`."""
    (image,), (output,) = proto.graph.input, proto.graph.output
    renamed = {image.name: "image", output.name: "probabilities"}
    for node in proto.graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    for port in (image, output):
        port.name = renamed[port.name]
        port.type.tensor_type.shape.dim[0].dim_param = "batch"
