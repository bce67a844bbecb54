"""int8 ONNX files of networks that were trained for them: the scales and integers of the training.

Tensors are rounded by pairs of QuantizeLinear and DequantizeLinear ("QDQ"), which runtimes replace by operators of
integers. ONNX Runtime's convolutions compute the integers of the network, to the bit; its additions of shortcuts can
differ by one.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.serving import integer


def convert(model: keras.Model, opset: int) -> bytes:
    """Convert an integer network to an ONNX file with int8 weights and 8-bit activations.

    Args:
        model: from `quantization.integer_network`, f32[B,H,W,3] normalized -> probabilities f32[B,K].
        opset: version of ONNX's operators, at least 13.

    Returns:
        The file's content: `images` u8[B,H,W,3] -> `probabilities` f32[B,K].
    """
    import tf2onnx  # optional: the extra [onnx]

    network = integer.fake_quantized(model, rounds_padding=True)
    spec = tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8, name="images")

    def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": network(tf.cast(images, tf.float32), training=False)}

    written, _ = tf2onnx.convert.from_function(tf.function(predict, input_signature=[spec]), [spec], opset=opset)
    _store_integers(written.graph, [layer for layer in network.layers if isinstance(layer, integer.Convolution)])
    return written.SerializeToString()


def _store_integers(graph: Any, convolutions: list[integer.Convolution]) -> None:
    """Replace the weights of a graph's convolutions, which the converter wrote in float32, by integers and scales."""
    from onnx import helper, numpy_helper

    values = {each.name: each for each in graph.initializer}
    nodes = []

    def dequantized(name: str, integers: np.ndarray, scales: np.ndarray) -> str:
        """Add integers and their scales, by the first axis; return the name of their products."""
        names = [f"{name}/{part}" for part in ("integers", "scale", "zero_point")]
        parts = (integers, scales.astype("float32"), np.zeros(len(scales), integers.dtype))
        graph.initializer.extend(map(numpy_helper.from_array, parts, names))
        nodes.append(helper.make_node("DequantizeLinear", names, [name], name, axis=0))
        return name

    remaining = list(convolutions)
    for node in graph.node:
        if node.op_type == "Conv":
            kernel = numpy_helper.to_array(values[node.input[1]])
            layer = next(layer for layer in remaining if _is_kernel(kernel, layer))
            remaining.remove(layer)
            source = layer.source
            integers = np.rint(kernel / source.weight_scales[:, None, None, None]).astype("int8")
            node.input[1] = dequantized(f"{layer.name}/kernel", integers, source.weight_scales)
            scales = np.float32(source.scales[0]) * np.float32(source.weight_scales)
            node.input[2] = dequantized(f"{layer.name}/bias", source.bias_units.astype("int32"), scales)
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [each for each in graph.initializer if each.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)


def _is_kernel(kernel: np.ndarray, layer: integer.Convolution) -> bool:
    """Whether a kernel [F,C,h,w] is a layer's; the converter keeps no names of layers."""
    expected = layer.kernel_value.transpose(3, 2, 0, 1)
    if kernel.shape != expected.shape:
        return False
    return bool(np.all(np.abs(kernel - expected) <= layer.source.weight_scales[:, None, None, None] / 4))
