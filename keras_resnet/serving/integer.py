"""int8 TFLite files of networks that were trained for them: the integers of the file are those of the training."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.models.submodels import rebuild
from keras_resnet.quantization import integer
from keras_resnet.quantization.layers import ColorPadding2D
from keras_resnet.serving import conversion, folding
from keras_resnet.serving.signatures import Endpoint


def convert(model: keras.Model, batch_size: int | None = 1) -> bytes:
    """Convert an integer network to an int8 TFLite file, without calibration images.

    Args:
        model: from `quantization.integer.integer_network`, f32[N,H,W,3] normalized -> probabilities f32[N,K].
        batch_size: images in a call; None for any number.

    Returns:
        The file's content: `images` u8[N,H,W,3] -> `probabilities` u8[N,K] in steps of 1/256.
    """
    network = fake_quantized(model)
    spec = tf.TensorSpec([batch_size, *model.input_shape[1:]], tf.float32, name="images")

    def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": network(images, training=False)}

    def configure(converter: tf.lite.TFLiteConverter) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = tf.uint8

    return conversion.convert(network, Endpoint(predict, spec), configure)


def fake_quantized(model: keras.Model, rounds_padding: bool = False) -> keras.Model:
    """Return a network of pixels with fake quantization, from which the converter reads the scales.

    Args:
        model: as for `convert`.
        rounds_padding: whether padded images are rounded again, for runtimes that look for a scale at the input of each
            convolution; they are integers already.

    Returns:
        A network f32[N,H,W,3] in [0, 255] -> f32[N,K].
    """

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, integer.IntegerPixels):
            return _Pixels()
        if isinstance(layer, ColorPadding2D):
            return folding.ColorPadding(layer.margin, layer.color)
        if isinstance(layer, integer.IntegerConv2D):
            return Convolution(layer)
        if isinstance(layer, integer.IntegerAdd):
            return _Addition(layer)
        if isinstance(layer, integer.IntegerMean):
            return _Mean(layer)
        return type(layer).from_config(layer.get_config())

    def call(layer: keras.layers.Layer, inputs: Any) -> Any:
        # Tensors are real numbers already.
        outputs = inputs if isinstance(layer, keras.layers.Rescaling) else layer(inputs)
        return _Pixels()(outputs) if rounds_padding and isinstance(layer, folding.ColorPadding) else outputs

    return rebuild(model, copy, call, inference=True)


def _fake_quantized(inputs: tf.Tensor, scale: np.float32, limits: tuple[int, int]) -> tf.Tensor:
    """Round to a constant scale."""
    ends = [float(np.float32(limit) * scale) for limit in limits]
    return tf.quantization.fake_quant_with_min_max_vars(inputs, *ends)


def _rectified(inputs: tf.Tensor, limits: tuple[int, int]) -> tf.Tensor:
    """Apply ReLU if the lower limit is 0; the converter makes it part of the operation before it."""
    return tf.nn.relu(inputs) if limits[0] == 0 else inputs


class _Pixels(keras.layers.Layer):
    """Images whose integers are the pixels."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return _fake_quantized(inputs, np.float32(1.0), (0, 255))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape)


class _Addition(keras.layers.Layer):
    """A shortcut addition and its rounding."""

    def __init__(self, layer: integer.IntegerAdd):
        super().__init__(name=layer.name)
        self.source = layer

    def call(self, inputs: Any) -> tf.Tensor:
        sums = _rectified(inputs[0] + inputs[1], self.source.limits)
        return _fake_quantized(sums, self.source.scale, self.source.limits)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape[0])


class _Mean(keras.layers.Layer):
    """Global average pooling and its rounding."""

    def __init__(self, layer: integer.IntegerMean):
        super().__init__(name=layer.name)
        self.source = layer

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return _fake_quantized(tf.reduce_mean(inputs, (1, 2)), self.source.scale, self.source.limits)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], input_shape[3])


class Convolution(keras.layers.Layer):
    """A convolution of constant weights on their scales, and its rounding; a classifier is a 1x1 convolution.

    The converter supports per-channel scales in convolutions only.
    """

    def __init__(self, layer: integer.IntegerConv2D):
        super().__init__(name=layer.name)
        self.source = layer
        integers = layer.integers[None, None] if layer.is_dense else layer.integers
        self.kernel_value = np.float32(integers * layer.weight_scales)
        self.ends = layer.weight_scales * np.float32(layer.weight_limits[1])
        self.bias_value = np.float32(layer.bias_units * np.float64(layer.weight_scales) * layer.scales[0])

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        source = self.source
        kernel = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            self.kernel_value, -self.ends, self.ends, num_bits=source.weight_bits, narrow_range=True
        )
        if source.is_dense:
            inputs = inputs[:, None, None]
        outputs = tf.nn.conv2d(inputs, kernel, source.strides, source.padding.upper()) + self.bias_value
        outputs = _fake_quantized(_rectified(outputs, source.limits), source.scales[1], source.limits)
        return tf.reshape(outputs, [-1, len(self.bias_value)]) if source.is_dense else outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        if self.source.is_dense:
            return (input_shape[0], len(self.bias_value))
        size, (rows, columns) = input_shape[1:3], self.kernel_value.shape[:2]
        margins = (rows, columns) if self.source.padding == "valid" else (1, 1)
        sides = (
            None if side is None else (side - margin) // stride + 1
            for side, margin, stride in zip(size, margins, self.source.strides, strict=True)
        )
        return (input_shape[0], *sides, len(self.bias_value))
