"""Build the network that trains for int8 from a float network, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet import compat
from keras_resnet.errors import InputError
from keras_resnet.models.submodels import readers, rebuild
from keras_resnet.quantization.layers import ColorPadding2D, Quantize, QuantizedConv2D, QuantizedDense, ToPixels

SAME_SCALE = ("ZeroPadding2D", "MaxPooling2D", "IdentityShortcut", "GlobalMaxPooling2D")
"""Layers whose outputs are among their inputs or 0, so that they keep the scale of their input."""

ACTIVATIONS = {"Activation": ("relu", "linear", "softmax"), "Dense": ("linear", "softmax", "sigmoid")}
"""Kind of layer -> the activations that it may have."""

UNCONDITIONAL = (
    *("InputLayer", "Conv2D", "PointwiseConv2D", "BatchNormalization", "ReLU", "Add", "GlobalAveragePooling2D"),
    *SAME_SCALE,
)
"""Further kinds of layers that a network may have."""


def prepare(
    model: keras.Model,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    *,
    weight_bits: int = 8,
) -> keras.Model:
    """Build the network that rounds as the int8 file of a float network, and can be trained.

    Kernels are rounded for each output channel, and every tensor that the int8 file stores is rounded with a learned
    scale: the images, the outputs of ReLU, the summands of shortcut additions, the pooled features and the logits.
    Batch norm stays a layer of its own: it is folded into the convolution without changing an integer, since both have
    one factor for each channel. Layers keep their names, and all weights of the float network are in the result.

    The scales of kernels are set to those with the least error; those of activations are 1 until
    `calibration.calibrate` sets them.

    Args:
        model: a float32 network of this package with static channels, f32[B,H,W,C] -> f32[B,K]; it is not changed.
        mean: mean of each channel in [0, 255] that the images had subtracted. With it, the int8 file takes pixels, and
            normalization is part of its first convolution. By default the images are rounded as they are.
        std: standard deviation of each channel by which the images were divided; by default 1.
        weight_bits: bits of the weights of all layers but the first and the last, which have 8; 2 to 8.

    Returns:
        A functional network f32[B,H,W,C] -> f32[B,K] of the same normalized images.

    Raises:
        ValueError: the network has a layer that int8 files of this package lack, or computes in another dtype; or
            Keras 2 is installed.
    """
    if not hasattr(keras, "ops"):
        raise InputError("quantization-aware training requires Keras 3; tfmot offers it for Keras 2.")
    if weight_bits not in range(2, 9):
        raise InputError(f"weight_bits must be from 2 to 8; got {weight_bits!r}.")
    if mean is None and std is not None:
        raise InputError("std requires mean, which the images had subtracted; got mean=None.")
    model = _functional(model)
    graph = _Graph(model)
    pixels = _Pixels.of(graph, mean, std) if mean is not None else None

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if isinstance(layer, keras.layers.Conv2D):
            bits = 8 if layer is graph.first else weight_bits
            if pixels and layer is graph.first:
                config |= {"padding": "valid", "input_std": pixels.std}
            return QuantizedConv2D.from_config({**config, "weight_bits": bits})
        if isinstance(layer, keras.layers.Dense):
            return QuantizedDense.from_config({**config, "activation": None})
        if pixels and layer is pixels.padding:
            return pixels.pad(name=layer.name)
        return type(layer).from_config(config)

    def call(layer: keras.layers.Layer, inputs: Any) -> Any:
        original = graph.layers[layer.name]
        if graph.reads_input(original):
            entry = ToPixels(pixels.mean, pixels.std, name="pixels") if pixels else Quantize(name="input_int8")
            inputs = entry(inputs)
        if pixels and original is graph.first and pixels.padding is None and pixels.margin:
            inputs = pixels.pad(name=f"{layer.name}_pad")(inputs)
        outputs = layer(inputs)
        if graph.is_stored(original):
            outputs = Quantize(not graph.is_positive(original), name=f"{layer.name}_int8")(outputs)
        if isinstance(original, keras.layers.Dense) and graph.activation(original) != "linear":
            outputs = keras.layers.Activation(original.activation, name=f"{layer.name}_activation")(outputs)
        return outputs

    prepared = rebuild(model, copy, call)
    for layer in model.layers:
        target = prepared.get_layer(layer.name)
        for name in _variables(layer):
            getattr(target, name).assign(getattr(layer, name))
        if isinstance(target, (QuantizedConv2D, QuantizedDense)):
            target.reset_scale()
    return prepared


def _functional(model: Any) -> keras.Model:
    """Return a model as a functional one; raise `InputError` for those without a graph of layers."""
    if isinstance(model, keras.Sequential) and model.built:
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    if not isinstance(model, keras.Model) or not any(
        isinstance(part, keras.layers.InputLayer) for part in model.layers
    ):
        raise InputError(f"model must be a functional or built sequential model; got a {type(model).__name__}.")
    if any(type(layer).__name__ in ("Quantize", "IntegerConv2D") for layer in model.layers):
        raise InputError(f"model must be a float network; {model.name} is from quantization.prepare or a copy of it.")
    return model


def restore(model: keras.Model, prepared: keras.Model) -> None:
    """Copy the weights of a prepared network to the float network that it was built from."""
    for layer in model.layers:
        source = prepared.get_layer(layer.name)
        for name in _variables(layer):
            getattr(layer, name).assign(getattr(source, name))


def _variables(layer: keras.layers.Layer) -> list[str]:
    """Names of the attributes that are a float layer's variables."""
    names = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
    return [name for name in names if layer.weights and getattr(layer, name, None) is not None]


class _Graph:
    """What the position of a layer in the network says about its output."""

    def __init__(self, model: keras.Model):
        self.layers = {layer.name: layer for layer in model.layers}
        self.readers = readers(model)
        self.producers = {id(tensor): layer for layer in model.layers for tensor in compat.flatten(layer.output)}
        for layer in model.layers:
            self._check(layer)
        convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
        if not convolutions:
            raise InputError(f"model must be a network of this package; {model.name} has no convolution.")
        self.first = convolutions[0]

    def _check(self, layer: keras.layers.Layer) -> None:
        kind = type(layer).__name__
        if kind not in UNCONDITIONAL and self.activation(layer) not in ACTIVATIONS.get(kind, ()):
            raise InputError(f"model must have layers that int8 files have; {layer.name!r} is a {kind}.")
        if layer.weights and layer.compute_dtype != "float32":
            raise InputError(f"model must compute in float32; {layer.name!r} computes in {layer.compute_dtype}.")
        if any(id(tensor) not in self.producers for tensor in compat.flatten(layer.input)):
            raise InputError(f"model must call each layer once; {layer.name!r} reads one that is called several times.")
        if unusual := self._unusual(layer):
            raise InputError(f"model must have layers as in the networks of this package; {layer.name!r} {unusual}.")

    def _unusual(self, layer: keras.layers.Layer) -> str:
        """What a layer does that int8 files of this package do not compute; "" if there is nothing."""
        if getattr(layer, "data_format", "channels_last") != "channels_last":
            return "has channels first"
        if isinstance(layer, keras.layers.Conv2D):
            if layer.groups != 1 or tuple(layer.dilation_rate) != (1, 1):
                return "has groups or a dilation"
            if self.activation(layer) != "linear":
                return "has an activation, which must be a layer of its own"
        if isinstance(layer, keras.layers.ReLU) and (
            layer.max_value is not None or layer.negative_slope or layer.threshold
        ):
            return "has a largest value, a slope or a threshold"
        if isinstance(layer, keras.layers.BatchNormalization):
            before = self.before(layer.input)
            if not isinstance(before, keras.layers.Conv2D) or len(self.readers[id(before.output)]) != 1:
                return "does not follow a convolution that nothing else reads"
        return ""

    @staticmethod
    def activation(layer: keras.layers.Layer) -> str:
        """Name of a layer's activation."""
        return getattr(getattr(layer, "activation", None), "__name__", "linear")

    def reads_input(self, layer: keras.layers.Layer) -> bool:
        """Whether a layer reads the images."""
        return any(isinstance(self.before(tensor), keras.layers.InputLayer) for tensor in compat.flatten(layer.input))

    def before(self, tensor: Any) -> keras.layers.Layer:
        """The layer that computes a tensor."""
        return self.producers[id(tensor)]

    def is_relu(self, layer: keras.layers.Layer) -> bool:
        """Whether a layer is a ReLU."""
        return isinstance(layer, keras.layers.ReLU) or (
            isinstance(layer, keras.layers.Activation) and self.activation(layer) == "relu"
        )

    def is_stored(self, layer: keras.layers.Layer) -> bool:
        """Whether the int8 file has a tensor with a scale of its own for a layer's output."""
        if type(layer).__name__ in SAME_SCALE:
            return False
        if isinstance(layer, keras.layers.Activation) and not self.is_relu(layer):
            return False
        after = self.readers[id(layer.output)]
        if isinstance(layer, keras.layers.Conv2D) and any(
            isinstance(reader, keras.layers.BatchNormalization) for reader in after
        ):
            return False  # folded
        fused = len(after) == 1 and self.is_relu(after[0])
        return not fused or self.is_relu(layer)

    def is_positive(self, layer: keras.layers.Layer) -> bool:
        """Whether a layer's outputs cannot be negative."""
        if self.is_relu(layer):
            return True
        averages = isinstance(layer, keras.layers.GlobalAveragePooling2D) or type(layer).__name__ in SAME_SCALE
        return averages and self.is_positive(self.before(layer.input))


class _Pixels:
    """The normalization of the images, and the padding of the first convolution, which follows it."""

    def __init__(self, mean: Any, std: Any, padding: keras.layers.Layer | None, margin: int):
        self.mean, self.std, self.padding, self.margin = mean, std, padding, margin

    @classmethod
    def of(cls, graph: _Graph, mean: Any, std: Any) -> _Pixels:
        """Read the padding of the first convolution, which pads with the mean color of the pixels."""
        channels = graph.first.kernel.shape[2]
        mean = np.asarray(mean, np.float64)
        if mean.ndim != 1 or len(mean) != channels:
            raise InputError(f"mean must have {channels} numbers, one for each channel; its shape is {mean.shape}.")
        std = np.ones(channels) if std is None else np.asarray(std, np.float64)
        if std.shape != mean.shape:
            raise InputError(f"std must have {channels} numbers, one for each channel; its shape is {std.shape}.")
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise InputError(f"mean must be finite and std above 0; got {mean.tolist()} and {std.tolist()}.")
        before = graph.before(graph.first.input)
        if isinstance(before, keras.layers.ZeroPadding2D):
            if len({side for sides in before.padding for side in sides}) != 1:
                raise InputError(f"model must pad all sides of the images equally; {before.name!r} does not.")
            return cls(mean, std, before, before.padding[0][0])
        (height, width), same = graph.first.kernel_size, graph.first.padding == "same"
        if same and (height != width or height % 2 == 0 or tuple(graph.first.strides) != (1, 1)):
            raise InputError(
                f"model must pad all sides of the images equally; {graph.first.name!r} with padding 'same' does not: "
                "use ZeroPadding2D before it and padding 'valid'."
            )
        margin = height // 2 if same else 0
        return cls(mean, std, None, margin)

    def pad(self, name: str) -> ColorPadding2D:
        """The layer that pads pixels minus their mean: with the nearest color that pixels can have."""
        return ColorPadding2D(self.margin, np.rint(self.mean) - self.mean, name=name)
