"""Batch norm folded into the convolution before it: the same function with fewer operations."""

from __future__ import annotations

import collections

import keras
import numpy as np

from keras_resnet.errors import check_choice
from keras_resnet.models.resnet import recursion_limit

DTYPES = ("float32", "float16", "bfloat16")


def fold(model: keras.Model, dtype: str = "float32") -> keras.Model:
    """Copy a network for inference, each batch norm folded into its convolution (Jacob et al., 2018, section 3.2).

    `gamma (conv(x) - mean) / sqrt(variance + epsilon) + beta` is a convolution with a bias; the new kernels are computed
    in float64. A batch norm that does not follow a convolution of its own stays as it is.

    Args:
        model: a functional network, f32[B,H,W,C] -> f32[B,K]; it is not changed.
        dtype: of weights and computation, "float32", "float16" or "bfloat16"; pooling and classifier are in float32.

    Returns:
        A functional network with the same layer names, without those of the batch norms that were folded.

    Raises:
        ValueError: unknown dtype.
    """
    check_choice("dtype", dtype, DTYPES)
    pairs = _pairs(model)
    norms = {norm.name for norm in pairs.values()}

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        own = "float32" if isinstance(layer, (keras.layers.GlobalAveragePooling2D, keras.layers.Dense)) else dtype
        config = {**layer.get_config(), "dtype": own}
        if layer.name in pairs:
            config["use_bias"] = True
        return type(layer).from_config(config)

    def call(layer: keras.layers.Layer, inputs, **_):
        return inputs if layer.name in norms else layer(inputs)

    with recursion_limit(30 * len(model.layers)):
        folded = keras.models.clone_model(model, clone_function=copy, call_function=call)
    for layer in model.layers:
        if layer.name in pairs:
            folded.get_layer(layer.name).set_weights(_folded_weights(layer, pairs[layer.name]))
        elif layer.weights and layer.name not in norms:
            folded.get_layer(layer.name).set_weights(layer.get_weights())
    return folded


def _pairs(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Name of each convolution that only a batch norm reads -> that batch norm."""
    convolutions = {id(layer.output): layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)}
    readers = collections.Counter(id(tensor) for layer in model.layers for tensor in keras.tree.flatten(layer.input))
    return {
        convolutions[id(layer.input)].name: layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and readers[id(layer.input)] == 1
        if id(layer.input) in convolutions
    }


def _folded_weights(convolution: keras.layers.Conv2D, norm: keras.layers.BatchNormalization) -> list[np.ndarray]:
    """Kernel and bias of a convolution and its batch norm in one."""
    kernel, *bias = (np.float64(weight) for weight in convolution.get_weights())
    gamma, beta, mean, variance = (np.float64(weight) for weight in norm.get_weights())
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return [kernel * scale, beta + (sum(bias) - mean) * scale]
