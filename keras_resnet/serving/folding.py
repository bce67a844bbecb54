"""Fold batch norm and input normalization into convolutions: the same function with fewer operations."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import compat
from keras_resnet.errors import InputError, check_choice
from keras_resnet.models.submodels import readers, rebuild
from keras_resnet.quantization.integer import is_integer
from keras_resnet.quantization.layers import ColorPadding2D

DTYPES = ("float32", "float16", "bfloat16")


def fold(model: keras.Model, dtype: str = "float32") -> keras.Model:
    """Copy a network for inference, with each batch norm folded into its convolution (Jacob et al., 2018, section 3.2).

    `gamma (conv(x) - mean) / sqrt(variance + epsilon) + beta` is a convolution with a bias; its kernel is computed
    in float64. A batch norm is kept unless it alone reads the output of a convolution, which has no activation.

    Args:
        model: a functional network, f32[B,H,W,C] -> f32[B,K]; it is not changed.
        dtype: dtype of weights and computation: "float32", "float16" or "bfloat16"; pooling and classifier, also those
            of pixels, are float32.

    Returns:
        A functional network with the same layer names, except the folded batch norms; an integer network, which has
        them folded already, itself.

    Raises:
        ValueError: unknown dtype, or one that an integer network does not have; or a layer is called with more than
            its inputs, such as `training=True`.
    """
    check_choice("dtype", dtype, DTYPES)
    if is_integer(model):
        if dtype != "float32":
            raise InputError(f"dtype must be float32 for a network that was trained for int8; got {dtype!r}.")
        return model
    pairs = foldable(model)
    norms = {norm.name for norm in pairs.values()}

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        is_head = isinstance(layer, (keras.layers.GlobalAveragePooling2D, keras.layers.Dense))
        # The classifier of pixels and the interpolation of its scores are called "head_logits" and "logits".
        is_head |= layer.name.endswith("logits")
        config = {**layer.get_config(), "dtype": "float32" if is_head else dtype}
        if layer.name in pairs:
            config["use_bias"] = True
        return type(layer).from_config(config)

    def call(layer: keras.layers.Layer, inputs: Any) -> Any:
        return inputs if layer.name in norms else layer(inputs)

    folded = rebuild(model, copy, call, inference=True)
    copies = {layer.name: layer for layer in folded.layers}
    for layer in model.layers:
        if layer.name in pairs:
            copies[layer.name].set_weights(_folded_weights(layer, pairs[layer.name]))
        elif layer.weights and layer.name not in norms:
            copies[layer.name].set_weights(layer.get_weights())
    return folded


def foldable(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Name of each convolution without activation whose output only a batch norm reads -> that batch norm."""
    convolutions = {
        id(layer.output): layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.activation in (None, keras.activations.linear)
    }
    for output in compat.flatten(model.output):
        convolutions.pop(id(output), None)
    readers_of = readers(model)
    return {
        convolutions[id(layer.input)].name: layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and len(readers_of[id(layer.input)]) == 1
        if id(layer.input) in convolutions and _normalizes_channels(layer, convolutions[id(layer.input)])
    }


def _normalizes_channels(norm: keras.layers.BatchNormalization, convolution: keras.layers.Conv2D) -> bool:
    axis = norm.axis[0] if isinstance(norm.axis, (list, tuple)) else norm.axis  # a list in Keras 2
    return axis % 4 == (1 if convolution.data_format == "channels_first" else 3)


def _folded_weights(convolution: keras.layers.Conv2D, norm: keras.layers.BatchNormalization) -> list[np.ndarray]:
    """Kernel and bias of a convolution with its batch norm folded into it."""
    kernel, *bias = (np.asarray(weight, np.float64) for weight in convolution.get_weights())
    weights = [np.asarray(weight, np.float64) for weight in norm.get_weights()]
    mean, variance = weights[-2:]
    gamma = weights[0] if norm.scale else 1.0
    beta = weights[-3] if norm.center else 0.0
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return [kernel * scale, beta + (sum(bias) - mean) * scale]


def fold_normalization(model: keras.Model, mean: Any, std: Any) -> keras.Model:
    """Copy a network so that it takes pixels, with the normalization folded into its first convolution.

    Zero padding of a normalized image is padding with the mean color of the pixels; it is rounded to whole numbers,
    which integer networks represent exactly.

    Args:
        model: a functional network whose first convolution has a bias, such as `fold` makes, f32[N,H,W,C] normalized
            -> f32[N,K]; it is not changed.
        mean: mean of each channel, in [0, 255].
        std: standard deviation of each channel.

    Returns:
        A functional network, f32[N,H,W,C] in [0, 255] -> f32[N,K].
    """
    mean, std = np.float64(mean), np.float64(std)
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    before = next(layer for layer in model.layers if layer.output is first.input)
    # Padding is a layer before the convolution, or part of it if its stride is 1.
    pads = isinstance(before, keras.layers.ZeroPadding2D)
    margin = before.padding[0][0] if pads else first.kernel_size[0] // 2

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        return type(layer).from_config({**config, "padding": "valid"} if layer is first else config)

    def call(layer: keras.layers.Layer, inputs: Any) -> Any:
        if pads and layer.name == before.name:
            return inputs
        if layer.name == first.name:
            inputs = ColorPadding(margin, np.rint(mean).tolist())(inputs)
        return layer(inputs)

    folded = rebuild(model, copy, call, inference=True)
    for layer in model.layers:
        if layer.weights:
            folded.get_layer(layer.name).set_weights(layer.get_weights())
    kernel, bias = (np.float64(weight) for weight in first.get_weights())
    kernel = kernel / std[:, None]
    folded.get_layer(first.name).set_weights([kernel, bias - np.einsum("hwio,i->o", kernel, mean)])
    return folded


class ColorPadding(ColorPadding2D):
    """The same by concatenation, which integer networks compute without rescaling."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        batch = inputs.shape[0] or tf.shape(inputs)[0]
        height, width = inputs.shape[1:3]

        def border(rows: int, columns: int) -> tf.Tensor:
            pixels = tf.constant(
                np.broadcast_to(np.asarray(self.color, "float32"), [1, rows, columns, len(self.color)])
            )
            return tf.tile(pixels, [batch, 1, 1, 1])

        row = border(self.margin, width)
        column = border(height + 2 * self.margin, self.margin)
        return tf.concat([column, tf.concat([row, inputs, row], 1), column], 2)
