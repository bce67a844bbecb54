"""Copies of networks that consist of Keras' own layers only, for programs without this package."""

from __future__ import annotations

from typing import Any

import keras

from keras_resnet.errors import InputError
from keras_resnet.models import layers
from keras_resnet.models.layers import IdentityShortcut, StochasticDepth
from keras_resnet.models.submodels import check_functional, rebuild

STOCK: dict[type, Any] = {
    layers.BatchNormalization: keras.layers.BatchNormalization,
    layers.DilatedConv2D: keras.layers.Conv2D,
    layers.PointwiseConv2D: keras.layers.Conv2D,
    layers.ReLU: keras.layers.Activation,
}
"""Layer of this package -> the layer of Keras with the same configuration and results."""


def to_keras(model: keras.Model) -> keras.Model:
    """Copy a network with stock Keras layers only, so that `keras.saving.load_model` needs no other package.

    The copy computes the same function, in training too, and has the same weights and layer names; the layers of this
    package become one or several of Keras:

    * Batch norm becomes `keras.layers.BatchNormalization`. That of Keras 2 keeps the unbiased variance in training.
    * The shortcut of option A becomes average pooling over 1x1 windows, and zero padding between two permutations,
      since Keras pads only the dimensions after the first.
    * Stochastic depth becomes a dropout of whole batches, whose result is scaled by the probability of keeping it.

    Args:
        model: a functional model: a network of this package, with or without its top, a feature pyramid, or any model
            that consists of their layers and those of Keras. It is not changed.

    Returns:
        A `keras.Model` with its own copy of the weights.

    Raises:
        ValueError: the model is not functional, contains other models, has other layers of this package, such as a
            detector's, or calls a layer with more than its inputs, such as `training=False`.
    """
    check_functional(model)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            raise InputError(f"model must not contain other models; layer {layer.name!r} is one: convert it alone.")
        own = type(layer).__module__.split(".")[0] == "keras_resnet"
        if own and not isinstance(layer, (*STOCK, IdentityShortcut, StochasticDepth)):
            raise InputError(
                f"model must consist of the layers of networks and of Keras; layer {layer.name!r} is a "
                f"{type(layer).__name__}."
            )
    stock = rebuild(model, _copy, _call)
    for layer in model.layers:
        if layer.weights:
            stock.get_layer(layer.name).set_weights(layer.get_weights())
    return stock


def _copy(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Copy a layer; those of this package that have the configuration of one of Keras become it."""
    if isinstance(layer, (IdentityShortcut, StochasticDepth)):
        return layer  # `_call` takes its place
    return STOCK.get(type(layer), type(layer)).from_config(layer.get_config())


def _call(layer: keras.layers.Layer, inputs: Any) -> Any:
    if isinstance(layer, IdentityShortcut):
        return _identity_shortcut(layer, inputs)
    if isinstance(layer, StochasticDepth):
        return _stochastic_depth(layer, *inputs)
    return layer(inputs)


def _identity_shortcut(layer: IdentityShortcut, x: Any) -> Any:
    """Apply option A: the last layer has its name."""
    options = {"dtype": layer.dtype_policy if hasattr(layer, "dtype_policy") else layer._dtype_policy}
    if layer.stride > 1:
        x = keras.layers.AveragePooling2D(1, layer.stride, name=f"{layer.name}_pool", **options)(x)
    padding = layer.padding_of(x.shape[-1])
    # f32[B,h,w,C] -> f32[B,C,h,w], padded in the second dimension.
    x = keras.layers.Permute((3, 1, 2), name=f"{layer.name}_first", **options)(x)
    x = keras.layers.ZeroPadding2D((padding, (0, 0)), data_format="channels_last", name=f"{layer.name}_pad", **options)(
        x
    )
    return keras.layers.Permute((2, 3, 1), name=layer.name, **options)(x)


def _stochastic_depth(layer: StochasticDepth, shortcut: Any, residual: Any) -> Any:
    """Apply stochastic depth; dropout divides what it keeps by the probability of keeping it."""
    keep, options = layer.survival_probability, {"dtype": layer.dtype_policy}
    dropout = keras.layers.Dropout(1 - keep, noise_shape=(1, 1, 1, 1), name=f"{layer.name}_dropout", **options)
    scale = keras.layers.Rescaling(keep, name=f"{layer.name}_scale", **options)
    return keras.layers.Add(name=layer.name, **options)([shortcut, scale(dropout(residual))])
