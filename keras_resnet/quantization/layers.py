"""Layers whose weights or outputs are rounded as in an int8 file, and learn with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.quantization import rounding


class _LearnedScale(keras.layers.Layer):
    """A layer that rounds to multiples of a learned scale.

    The trained variable is the logarithm of the scale's ratio to its first value, as in Jain et al., "Trained
    Quantization Thresholds for Accurate and Efficient Fixed-Point Inference" (2020). So scales of any size learn
    equally fast and stay above 0, and weight decay draws them to their first value.
    """

    def add_scale(self, shape: Sequence[int]) -> None:
        """Add the variables of a scale: the first value, which is not trained, and the logarithm of the ratio to it."""
        self.first_scale = self.add_weight(shape=shape, initializer="ones", trainable=False, name="first_scale")
        self.log_ratio = self.add_weight(shape=shape, initializer="zeros", name="log_ratio")

    @property
    def scale(self) -> Any:
        """The scale, f32[] or f32[F]."""
        return self.first_scale * keras.ops.exp(self.log_ratio)

    def scale_value(self) -> np.ndarray:
        """Return the scale as a NumPy array, f32[] or f32[F]."""
        return np.asarray(keras.ops.convert_to_numpy(self.scale), "float32")

    def start_at(self, scale: Any) -> None:
        """Set the first value of the scale, from which it learns."""
        self.first_scale.assign(scale)
        self.log_ratio.assign(np.zeros(self.log_ratio.shape, "float32"))


@keras.saving.register_keras_serializable(package="keras_resnet")
class Quantize(_LearnedScale):
    """Round activations to the 256 values of an int8 tensor with a learned scale: f32[B,...] -> f32[B,...].

    Args:
        signed: whether the tensor has negative values; its range is [-128, 127] times the scale, else [0, 255].
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(self, signed: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.signed = signed

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer, before the zero point is added."""
        return rounding.activation_limits(self.signed)

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.add_scale(())

    def scale_number(self) -> np.float32:
        """Return the scale as a number."""
        return np.float32(self.scale_value())

    def call(self, inputs: Any) -> Any:
        return rounding.fake_quantize(inputs, self.scale, self.limits)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "signed": self.signed}


@keras.saving.register_keras_serializable(package="keras_resnet")
class ToPixels(keras.layers.Layer):
    """Undo the normalization of images and round them to whole pixels minus the mean: f32[B,H,W,C] -> f32[B,H,W,C].

    Args:
        mean: mean of each channel, in [0, 255].
        std: standard deviation of each channel.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], **kwargs: Any):
        super().__init__(**kwargs)
        self.mean = [float(value) for value in mean]
        self.std = [float(value) for value in std]

    def pixels(self, inputs: Any) -> Any:
        """Return the whole pixels, f32[B,H,W,C] in [0, 255]."""
        mean, std = (keras.ops.convert_to_tensor(values, inputs.dtype) for values in (self.mean, self.std))
        return keras.ops.clip(keras.ops.round(inputs * std + mean), 0, 255)

    def call(self, inputs: Any) -> Any:
        return self.pixels(inputs) - keras.ops.convert_to_tensor(self.mean, inputs.dtype)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mean": self.mean, "std": self.std}


@keras.saving.register_keras_serializable(package="keras_resnet")
class ColorPadding2D(keras.layers.Layer):
    """Pad images with pixels of one color: f32[B,H,W,C] -> f32[B,H+2m,W+2m,C].

    Args:
        margin: padding of each side in pixels, m.
        color: the color, C numbers.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(self, margin: int, color: Sequence[float], **kwargs: Any):
        super().__init__(**kwargs)
        self.margin = margin
        self.color = [float(value) for value in color]

    def call(self, inputs: Any) -> Any:
        color = keras.ops.convert_to_tensor(self.color, inputs.dtype)
        sides = [self.margin, self.margin]
        return keras.ops.pad(inputs - color, [[0, 0], sides, sides, [0, 0]]) + color

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        batch, *size, channels = input_shape
        return (batch, *(None if side is None else side + 2 * self.margin for side in size), channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin, "color": self.color}


class _QuantizedKernel(_LearnedScale):
    """A kernel that is rounded with a learned scale for each output channel.

    A batch norm that follows multiplies each channel by a number, so an int8 file that has it folded into the
    convolution has the same integers and other scales. Training needs no second convolution for that, which per-tensor
    scales would (Krishnamoorthi, 2018, section 3.2.2).
    """

    weight_bits: int
    input_std: list[float] | None

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer of a weight."""
        return rounding.weight_limits(self.weight_bits)

    def divided(self, kernel: Any) -> Any:
        """Return the kernel with the division of the inputs by their standard deviation folded into it."""
        if self.input_std is None:
            return kernel
        return kernel / keras.ops.convert_to_tensor(np.reshape(self.input_std, [-1, 1]), kernel.dtype)

    def rounded(self, kernel: Any) -> Any:
        """Return the kernel as the int8 file has it."""
        return rounding.fake_quantize(self.divided(kernel), self.scale, self.limits)

    def save_own_variables(self, store: Any) -> None:
        """Save all variables, not only those of the base class."""
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Any) -> None:
        """Load what `save_own_variables` has saved."""
        keras.layers.Layer.load_own_variables(self, store)

    def integers(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the kernel as integers, i8 of its shape, and the scales f64[F]."""
        kernel, scales = keras.ops.convert_to_numpy(self.divided(self.kernel)), self.scale_value()
        return np.clip(np.rint(kernel / scales), *self.limits).astype("int8"), scales.astype("float64")

    def reset_scale(self) -> None:
        """Set the scales to those that round the current kernel with the least error."""
        kernel = keras.ops.convert_to_numpy(self.divided(self.kernel))
        self.start_at(rounding.best_scales(kernel.reshape(-1, kernel.shape[-1]), self.limits))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight_bits": self.weight_bits, "input_std": self.input_std}


@keras.saving.register_keras_serializable(package="keras_resnet")
class QuantizedConv2D(_QuantizedKernel, keras.layers.Conv2D):
    """A convolution whose kernel is rounded: f32[B,H,W,C] -> f32[B,h,w,F].

    Args:
        *args: arguments of `keras.layers.Conv2D`.
        weight_bits: bits of a weight, 2 to 8.
        input_std: divisor of each input channel, which is part of the rounded kernel; None for 1.
        **kwargs: arguments of `keras.layers.Conv2D`.
    """

    def __init__(self, *args: Any, weight_bits: int = 8, input_std: Sequence[float] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.weight_bits = weight_bits
        self.input_std = None if input_std is None else [float(value) for value in input_std]

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        self.add_scale(self.kernel.shape[-1:])

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        return super().convolution_op(inputs, self.rounded(kernel))


@keras.saving.register_keras_serializable(package="keras_resnet")
class QuantizedDense(_QuantizedKernel, keras.layers.Dense):
    """A classifier whose kernel is rounded, without activation: f32[B,C] -> f32[B,F].

    Args:
        *args: arguments of `keras.layers.Dense`.
        weight_bits: bits of a weight, 2 to 8.
        **kwargs: arguments of `keras.layers.Dense`.
    """

    input_std = None

    def __init__(self, *args: Any, weight_bits: int = 8, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.weight_bits = weight_bits

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        self.add_scale(self.kernel.shape[-1:])

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return keras.ops.matmul(inputs, self.rounded(self.kernel)) + self.bias

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["input_std"]
        return config
