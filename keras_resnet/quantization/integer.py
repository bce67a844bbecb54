"""The arithmetic of int8 files in LiteRT, exact to the bit: what a trained network computes on a device.

A tensor is held as whole numbers without its zero point, in float32, which holds them exactly below 2**24. The formulas
are those of XNNPACK, which runs int8 files on CPUs: sums of products in integers, one float32 multiplication, and
rounding to the nearest even number; shortcut additions have multipliers of 21 bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet import compat
from keras_resnet.errors import InputError
from keras_resnet.models.submodels import readers, rebuild
from keras_resnet.quantization.layers import ColorPadding2D, Quantize, QuantizedConv2D, QuantizedDense, ToPixels

ADDITION_BITS = 20
"""The larger multiplier of an addition is in [2**20, 2**21)."""


class IntegerConv2D(keras.layers.Layer):
    """A convolution with batch norm and ReLU folded in, or a classifier: whole f32[B,H,W,C] -> whole f32[B,h,w,F].

    Attributes:
        integers: the weights, i8[kh,kw,C,F] or i8[C,F].
        bias_units: the bias in units of input scale times weight scale, i64[F].
        weight_scales: f32[F], above 0.
        scales: those of input and output.
        limits: smallest and largest integer of the output.
    """

    def __init__(self, layer: Any, norm: Any, quantizer: Quantize, scale: np.float32, mean: Any):
        super().__init__(name=layer.name)
        integers, weight_scales = layer.integers()
        bias: Any = 0.0 if layer.bias is None else keras.ops.convert_to_numpy(layer.bias).astype("float64")
        if norm is not None:
            gamma, beta, moving_mean, variance = (np.asarray(weight, np.float64) for weight in norm.get_weights())
            factor = gamma / np.sqrt(variance + norm.epsilon)
            weight_scales, bias = weight_scales * factor, beta + (bias - moving_mean) * factor
        if mean is not None:
            bias = bias - np.einsum("hwio,i->o", integers * weight_scales, mean)
        # A channel with a negative factor has negated integers. One with the factor 0 has a bias only.
        integers = np.where(weight_scales < 0, -integers, integers)
        self.integers = np.where(weight_scales == 0, 0, integers).astype("int8")
        largest = np.float32(np.where(weight_scales == 0, 1.0, np.abs(weight_scales)) * layer.limits[1])
        # As the converter computes it from the range.
        self.weight_scales = (largest + largest) / np.float32(2 * layer.limits[1])
        self.scales = (scale, quantizer.scale_number())
        self.weight_limits, self.limits = layer.limits, quantizer.limits
        self.weight_bits = layer.weight_bits
        self.is_dense = self.integers.ndim == 2
        self.strides = (1, 1) if self.is_dense else layer.strides
        self.padding = "valid" if self.is_dense else layer.padding
        units = np.float64(self.weight_scales) * scale
        self.bias_units = np.rint(bias / units).astype("int64")
        if np.abs(self.bias_units).max() >= 2**31:
            raise InputError(
                f"model must have biases that fit its scales; that of {layer.name!r} is too large, as after training "
                "that diverged: lower the learning rate."
            )

    def build(self, input_shape: Sequence[int | None]) -> None:
        def constant(name: str, value: np.ndarray) -> Any:
            variable = self.add_weight(shape=value.shape, initializer="zeros", trainable=False, name=name)
            variable.assign(value)
            return variable

        self.kernel = constant("kernel", self.integers.astype("float32"))
        self.bias = constant("bias", self.bias_units.astype("float32"))
        self.multiplier = constant("multiplier", np.float32(self.scales[0] * self.weight_scales / self.scales[1]))

    def call(self, inputs: Any) -> Any:
        if self.is_dense:
            sums = keras.ops.matmul(inputs, self.kernel)
        else:
            sums = keras.ops.conv(inputs, self.kernel, self.strides, self.padding, "channels_last")
        return keras.ops.clip(keras.ops.round((sums + self.bias) * self.multiplier), *self.limits)


class IntegerAdd(keras.layers.Layer):
    """A shortcut addition with ReLU folded in: two whole f32[B,H,W,C] -> whole f32[B,H,W,C].

    Args:
        name: the layer's name.
        scales: those of the two inputs.
        quantizer: what rounds the output.
    """

    def __init__(self, name: str, scales: Sequence[np.float32], quantizer: Quantize):
        super().__init__(name=name)
        self.scale, self.limits = quantizer.scale_number(), quantizer.limits
        ratios = [np.float32(scale / self.scale) for scale in scales]
        self.shift = ADDITION_BITS - math.floor(math.log2(max(ratios)))
        self.multipliers = [round(float(ratio) * 2.0**self.shift) for ratio in ratios]

    def call(self, inputs: Any) -> Any:
        first, second = (keras.ops.cast(tensor, "int32") for tensor in inputs)
        sums = first * self.multipliers[0] + second * self.multipliers[1] + (1 << (self.shift - 1))
        rounded = keras.ops.floor_divide(sums, 1 << self.shift)
        return keras.ops.clip(keras.ops.cast(rounded, inputs[0].dtype), *self.limits)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape[0])


class IntegerMean(keras.layers.Layer):
    """Global average pooling: whole f32[B,H,W,C] -> whole f32[B,C].

    Args:
        name: the layer's name.
        scale: that of the input.
        quantizer: what rounds the output.
    """

    def __init__(self, name: str, scale: np.float32, quantizer: Quantize):
        super().__init__(name=name)
        self.scale, self.limits = quantizer.scale_number(), quantizer.limits
        self.ratio = np.float32(scale / self.scale)

    def call(self, inputs: Any) -> Any:
        _, height, width, _ = keras.ops.shape(inputs)
        multiplier = self.ratio / keras.ops.cast(height * width, inputs.dtype)
        return keras.ops.clip(keras.ops.round(keras.ops.sum(inputs, (1, 2)) * multiplier), *self.limits)


class IntegerPixels(ToPixels):
    """Undo the normalization of images: f32[B,H,W,C] -> whole f32[B,H,W,C] in [0, 255]."""

    def call(self, inputs: Any) -> Any:
        return self.pixels(inputs)


def is_integer(model: keras.Model) -> bool:
    """Return whether a network is one of `integer_network`."""
    return any(isinstance(layer, IntegerConv2D) for layer in model.layers)


def integer_network(model: keras.Model) -> keras.Model:
    """Build the network that computes what the int8 file of a prepared network computes, bit for bit up to the logits.

    Args:
        model: from `preparation.prepare` with the mean of its images, with weights and scales; it is not changed.

    Returns:
        A functional network with the inputs and outputs of `model`, which cannot be trained.

    Raises:
        ValueError: the network was not prepared for pixels, or not calibrated, or is an integer network.
    """
    return _Builder(model).build()


class _Builder:
    """Builds an integer network, layer by layer; `self.scales` knows the scale of each of its tensors."""

    def __init__(self, model: keras.Model):
        self.model = model
        self.scales: dict[int, np.float32] = {}
        self.absorbed: set[str] = set()
        self.readers = readers(model)
        pixels = [layer for layer in model.layers if isinstance(layer, ToPixels)]
        if not pixels:
            raise InputError("model must be from quantization.prepare with the mean of its images.")
        if is_integer(model):
            raise InputError(f"model must be from quantization.prepare; {model.name} is an integer network already.")
        scales = [layer.scale_value() for layer in model.layers if isinstance(layer, Quantize)]
        if all(scale == 1 for scale in scales):
            raise InputError("model must have the scales of its activations: call quantization.calibrate first.")
        self.mean = pixels[0].mean
        self.first = next(layer for layer in model.layers if isinstance(layer, QuantizedConv2D))

    def build(self) -> keras.Model:
        return rebuild(self.model, lambda layer: layer, self.call, inference=True)

    def chain(self, layer: keras.layers.Layer) -> tuple[Any, Quantize]:
        """Return the batch norm that follows a layer, or None, and what rounds the result; both become part of it."""
        norm = None
        while not isinstance(layer, Quantize):
            (layer,) = self.readers[id(layer.output)]
            self.absorbed.add(layer.name)
            if isinstance(layer, keras.layers.BatchNormalization):
                norm = layer
        return norm, layer

    def call(self, layer: keras.layers.Layer, inputs: Any) -> Any:
        if layer.name in self.absorbed:
            return self.real(layer, inputs) if isinstance(layer, Quantize) else inputs
        scales = [self.scales.get(id(tensor), np.float32(1.0)) for tensor in compat.flatten(inputs)]
        new, scale = self.translated(layer, scales)
        outputs = new(inputs)
        self.scales[id(outputs)] = scale
        return outputs

    def real(self, quantizer: Quantize, integers: Any) -> Any:
        """Return real numbers instead of the network's last integers, which nothing or an activation reads."""
        if not all(isinstance(reader, keras.layers.Activation) for reader in self.readers[id(quantizer.output)]):
            return integers
        return keras.layers.Rescaling(float(quantizer.scale_number()), name=f"{quantizer.name}_real")(integers)

    def translated(
        self, layer: keras.layers.Layer, scales: Sequence[np.float32]
    ) -> tuple[keras.layers.Layer, np.float32]:
        """Return the integer layer for a layer, and the scale of its output."""
        if isinstance(layer, ToPixels):
            return IntegerPixels(layer.mean, layer.std, name=layer.name), np.float32(1.0)
        if isinstance(layer, ColorPadding2D):
            color = np.rint(np.add(layer.color, self.mean)).tolist()
            return ColorPadding2D(layer.margin, color, name=layer.name), scales[0]
        if isinstance(layer, (QuantizedConv2D, QuantizedDense)):
            norm, quantizer = self.chain(layer)
            mean = self.mean if layer is self.first else None
            return IntegerConv2D(layer, norm, quantizer, scales[0], mean), quantizer.scale_number()
        if isinstance(layer, keras.layers.Add):
            _, quantizer = self.chain(layer)
            return IntegerAdd(layer.name, scales, quantizer), quantizer.scale_number()
        if isinstance(layer, keras.layers.GlobalAveragePooling2D):
            _, quantizer = self.chain(layer)
            return IntegerMean(layer.name, scales[0], quantizer), quantizer.scale_number()
        # Pooling and padding keep the scale. An activation of the logits is in real numbers.
        return type(layer).from_config(layer.get_config()), scales[0]
