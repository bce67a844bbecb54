"""Layers that Keras lacks or computes slowly, and the convolution that all networks use."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras

from keras_resnet import compat

BATCH_NORM_EPSILON = 1e-5

RELU_CHANNELS = 64
"""Least number of channels for which XLA's ReLU is faster than TensorFlow's."""


@keras.saving.register_keras_serializable(package="keras_resnet")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization with the fused kernels of TensorFlow and PyTorch (Ioffe and Szegedy, 2015).

    Arguments, weights, weight files and results are those of `keras.layers.BatchNormalization`, with two differences:

    * On TensorFlow and PyTorch, a 4-D channels-last input is normalized by one fused operation, which reads
      half-precision inputs without a float32 copy. JAX, whose compiler fuses the operations of the base class,
      `synchronized=True`, masks and renorm use the code of the base class.
    * Under `tf.distribute`, the moving statistics are averaged over replicas at each update. In Keras 3 each replica
      keeps its own, and they drift apart.

    TensorFlow's kernel returns the unbiased variance; it is rescaled, so that the moving variance is the biased one, as
    in Keras 3 on every backend.
    """

    def add_weight(self, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        if name in ("moving_mean", "moving_variance"):
            kwargs.setdefault("aggregation", "mean")
        return super().add_weight(*args, name=name, **kwargs)

    def _can_fuse(self, inputs: Any, mask: Any) -> bool:
        return (
            mask is None
            and not self.synchronized
            and not self.renorm
            and self.center
            and self.scale
            and len(inputs.shape) == 4
            and self.axis in (-1, 3, [3])
            and compat.standardize_dtype(inputs.dtype) in ("float32", "float16", "bfloat16")
            and (
                keras.backend.backend() == "tensorflow"
                # Keras infers shapes with tensors of the device "meta".
                or (keras.backend.backend() == "torch" and inputs.device.type in ("cpu", "cuda"))
            )
        )

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not self._can_fuse(inputs, mask):
            return super().call(inputs, training=training, mask=mask)
        fused = self._tensorflow if keras.backend.backend() == "tensorflow" else self._torch
        return fused(inputs, bool(training) and self.trainable)

    def _tensorflow(self, inputs: Any, training: bool) -> Any:
        import tensorflow as tf  # only runs on the TensorFlow backend

        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            # The kernel takes float32, which the variables are not under a policy such as "bfloat16".
            scale=tf.cast(self.gamma, tf.float32),
            offset=tf.cast(self.beta, tf.float32),
            # In training the kernel computes the statistics, and requires these two to be empty.
            mean=tf.constant([], tf.float32) if training else tf.cast(self.moving_mean, tf.float32),
            variance=tf.constant([], tf.float32) if training else tf.cast(self.moving_variance, tf.float32),
            epsilon=self.epsilon,
            data_format="NHWC",
            is_training=training,
        )
        if training:
            count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
            variance *= (count - 1.0) / count
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                before = tf.cast(moving, tf.float32)
                update = before * self.momentum + batch * (1.0 - self.momentum)
                # A replica may receive no images of a small last batch; their statistics are NaN.
                moving.assign(tf.cast(tf.where(count > 0, update, before), moving.dtype))
        return outputs

    def _torch(self, inputs: Any, training: bool) -> Any:
        import torch  # only runs on the PyTorch backend

        x = inputs.permute(0, 3, 1, 2)  # a view, which the kernel reads as channels-last
        gamma, beta = self.gamma.value.float(), self.beta.value.float()
        if training:
            outputs, mean, scale = torch.native_batch_norm(x, gamma, beta, None, None, True, 0.0, self.epsilon)
            variance = (scale.detach() ** -2 - self.epsilon).clamp(min=0)
            for moving, batch in ((self.moving_mean, mean.detach()), (self.moving_variance, variance)):
                moving.assign(moving.value.float() * self.momentum + batch * (1.0 - self.momentum))
        else:
            mean, variance = self.moving_mean.value.float(), self.moving_variance.value.float()
            outputs = torch.nn.functional.batch_norm(x, mean, variance, gamma, beta, eps=self.epsilon)
        return outputs.permute(0, 2, 3, 1)


@keras.saving.register_keras_serializable(package="keras_resnet")
class ReLU(keras.layers.Activation):
    """ReLU of a sum, which training in bfloat16 on CPUs computes in a quarter of the time.

    Arguments and results are those of `keras.layers.Activation("relu")`. TensorFlow's kernel for bfloat16 takes three
    times as long on CPUs as that for float32; XLA compiles a faster one. Inference uses TensorFlow's, which is part of
    a convolution's kernel in exported networks.
    """

    def __init__(self, activation: Any = "relu", **kwargs: Any):
        super().__init__(activation, **kwargs)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        fast = training and inputs.shape[-1] >= RELU_CHANNELS and _is_narrow_on_cpu(inputs)
        return _relu_of_training()(inputs) if fast else super().call(inputs)


@functools.cache
def _relu_of_training() -> Any:
    """Return ReLU on TensorFlow, compiled by XLA; its gradient is TensorFlow's operation."""
    import tensorflow as tf  # only runs on the TensorFlow backend

    compiled = tf.function(tf.nn.relu, jit_compile=True, autograph=False)

    @tf.custom_gradient
    def relu(inputs: Any) -> Any:
        outputs = compiled(inputs)
        return outputs, lambda upstream: tf.raw_ops.ReluGrad(gradients=upstream, features=outputs)

    return relu


def _is_narrow_on_cpu(inputs: Any) -> bool:
    """Whether a tensor is bfloat16, and TensorFlow computes with it on CPUs."""
    if keras.backend.backend() != "tensorflow" or compat.standardize_dtype(inputs.dtype) != "bfloat16":
        return False
    import tensorflow as tf  # only runs on the TensorFlow backend

    return all(device.device_type == "CPU" for device in tf.config.list_logical_devices())


@keras.saving.register_keras_serializable(package="keras_resnet")
class PointwiseConv2D(keras.layers.Conv2D):
    """A 1x1 convolution, whose gradient by kernel is a matrix product in training in bfloat16 on CPUs.

    Arguments, weights, weight files and results are those of `keras.layers.Conv2D`. TensorFlow's own operation for this
    gradient takes two to four times as long with AMX (`benchmarks/convolutions.py`).
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        simple = self.kernel_size == (1, 1) and self.strides[0] == self.strides[1] and self.groups == 1
        bare = not self.use_bias and self.activation is keras.activations.linear
        last = self.data_format == "channels_last"
        if not (training and simple and bare and last and _is_narrow_on_cpu(inputs)):
            return super().call(inputs)
        return _pointwise_convolution(inputs, compat.cast(self.kernel, inputs.dtype), self.strides[0])


def _pointwise_convolution(inputs: Any, kernel: Any, stride: int) -> Any:
    """Convolve maps [B,H,W,C] with a kernel [1,1,C,F] on TensorFlow: [B,ceil(H/stride),ceil(W/stride),F]."""
    import tensorflow as tf  # only runs on the TensorFlow backend

    @tf.custom_gradient
    def convolve(inputs: Any, kernel: Any) -> Any:
        outputs = tf.nn.conv2d(inputs, kernel, stride, "VALID")

        def gradient(upstream: Any) -> tuple[Any, Any]:
            of_inputs = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(inputs),
                filter=kernel,
                out_backprop=upstream,
                strides=[1, stride, stride, 1],
                padding="VALID",
            )
            # A pooling window of one pixel, because a strided slice works pixel by pixel.
            used = tf.nn.avg_pool2d(inputs, 1, stride, "VALID") if stride > 1 else inputs
            channels, filters = kernel.shape[2:]
            pixels, errors = tf.reshape(used, [-1, channels]), tf.reshape(upstream, [-1, filters])
            return of_inputs, tf.reshape(tf.matmul(pixels, errors, transpose_a=True), kernel.shape)

        return outputs, gradient

    return convolve(inputs, kernel)


@keras.saving.register_keras_serializable(package="keras_resnet")
class IdentityShortcut(keras.layers.Layer):
    """Shortcut option A (section 3.3): subsampling and zero channels, without parameters.

    f32[B,H,W,C] -> f32[B,ceil(H/stride),ceil(W/stride),filters].

    Args:
        filters: number of output channels, at least that of the input.
        stride: every `stride`-th row and column is kept, starting with the first.
        zero_channels: where the zero channels are inserted, which the paper does not state. "halves" inserts half of
            them before and half after the input's channels, as in the CIFAR-10 checkpoints of
            akamaster/pytorch_resnet_cifar10; "after" appends all of them.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(self, filters: int, stride: int = 1, zero_channels: str = "halves", **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = filters
        self.stride = stride
        self.zero_channels = zero_channels

    def padding_of(self, channels: int) -> tuple[int, int]:
        """Return the number of zero channels before and after an input's channels."""
        added = self.filters - channels
        before = added // 2 if self.zero_channels == "halves" else 0
        return before, added - before

    def call(self, inputs: Any) -> Any:
        # Pooling over 1x1 windows takes half the time of TensorFlow's strided slices and their gradients.
        x = compat.average_pool(inputs, 1, self.stride, "valid") if self.stride > 1 else inputs
        return compat.pad(x, [[0, 0], [0, 0], [0, 0], list(self.padding_of(inputs.shape[-1]))])

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        batch, *size, _ = input_shape
        return (batch, *(None if side is None else -(-side // self.stride) for side in size), self.filters)

    def get_config(self) -> dict[str, Any]:
        config = {"filters": self.filters, "stride": self.stride, "zero_channels": self.zero_channels}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="keras_resnet")
class StochasticDepth(keras.layers.Layer):
    """`shortcut + keep * residual`, where training skips the residual function for whole batches (Huang et al., 2016).

    In training, `keep` is 1 with the given probability and otherwise 0, drawn once per batch; at inference it is the
    probability. This is `tfa.layers.StochasticDepth` for Keras 3.

    Args:
        survival_probability: probability of keeping the residual function, in (0, 1].
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(self, survival_probability: float = 0.5, **kwargs: Any):
        super().__init__(**kwargs)
        self.survival_probability = survival_probability
        self.seed_generator = compat.SeedGenerator()

    def call(self, inputs: Any, training: bool = False) -> Any:
        shortcut, residual = inputs
        keep: Any = self.survival_probability
        if training:
            drawn = keras.random.uniform((), seed=self.seed_generator) < keep
            keep = compat.cast(drawn, residual.dtype)
        return shortcut + keep * residual

    def compute_output_shape(self, input_shape: Sequence[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "survival_probability": self.survival_probability}


@keras.saving.register_keras_serializable(package="keras_resnet")
class DilatedConv2D(keras.layers.Conv2D):
    """A dilated convolution of stride 1 and "same" padding, which TensorFlow computes as one operation.

    Arguments, weights, weight files and results are those of `keras.layers.Conv2D`. On TensorFlow, Keras cuts the input
    into as many small maps as the square of the dilation, which on CPUs takes up to 20 times as long for the large
    dilations of pyramid pooling. TensorFlow's own operation has no gradient on some CPUs, so that is written out here.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        regular = self.padding == "same" and self.data_format == "channels_last" and set(self.strides) == {1}
        if keras.backend.backend() != "tensorflow" or not regular or self.groups > 1:
            return super().convolution_op(inputs, kernel)
        return _dilated_convolution(inputs, compat.cast(kernel, inputs.dtype), self.dilation_rate)


def _dilated_convolution(inputs: Any, kernel: Any, dilation: Sequence[int]) -> Any:
    """Convolve maps [B,H,W,C] with a kernel [kh,kw,C,F] of odd sides on TensorFlow: [B,H,W,F]."""
    import tensorflow as tf  # only runs on the TensorFlow backend

    @tf.custom_gradient
    def convolve(inputs: Any, kernel: Any) -> Any:
        outputs = tf.nn.conv2d(inputs, kernel, 1, "SAME", dilations=tuple(dilation))

        def gradient(upstream: Any) -> tuple[Any, Any]:
            rows, columns, channels, filters = kernel.shape
            size = tf.shape(inputs)
            margins = [rate * (side // 2) for rate, side in zip(dilation, (rows, columns), strict=True)]
            padded = tf.pad(upstream, [[0, 0], [margins[0]] * 2, [margins[1]] * 2, [0, 0]])
            # The gradient of the output that each number of the kernel maps an input to, side by side.
            shifted = [
                padded[:, top : top + size[1], left : left + size[2]]
                for top in range(2 * margins[0], -1, -dilation[0])
                for left in range(2 * margins[1], -1, -dilation[1])
            ]
            flat = tf.reshape(tf.concat(shifted, -1), [-1, rows * columns * filters])
            matrix = tf.reshape(tf.transpose(kernel, [2, 0, 1, 3]), [channels, -1])
            of_inputs = tf.reshape(tf.matmul(flat, matrix, transpose_b=True), size)
            of_matrix = tf.matmul(tf.reshape(inputs, [-1, channels]), flat, transpose_a=True)
            of_kernel = tf.transpose(tf.reshape(of_matrix, [channels, rows, columns, filters]), [1, 2, 0, 3])
            return of_inputs, of_kernel

        return outputs, gradient

    return convolve(inputs, kernel)


@keras.saving.register_keras_serializable(package="keras_resnet")
class ResizeLike(keras.layers.Layer):
    """Resize maps to the height and width of other maps, bilinearly and without antialiasing.

    [f32[B,h,w,C], [B,H,W,...]] -> f32[B,H,W,C], as PyTorch's `interpolate` with `align_corners=False`: pixels are areas
    with half-integer centers, and values beyond the outermost centers are those of the border.
    """

    def call(self, inputs: Any) -> Any:
        maps, like = inputs
        if keras.backend.backend() != "tensorflow":
            return keras.ops.image.resize(maps, like.shape[1:3], "bilinear", data_format="channels_last")

        import tensorflow as tf  # only runs on the TensorFlow backend

        # Sides that are known keep the shape static, which TFLite requires.
        size = [like.shape[axis] or tf.shape(like)[axis] for axis in (1, 2)]
        return tf.cast(tf.image.resize(maps, size, "bilinear"), maps.dtype)

    def compute_output_shape(self, input_shape: Sequence[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        maps, like = input_shape
        return (maps[0], *like[1:3], maps[-1])

    def get_config(self) -> dict[str, Any]:
        return super().get_config()  # Keras' default fails for a dtype policy


def stochastic_depth(survival_probability: float, **kwargs: Any) -> keras.layers.Layer:
    """Return a stochastic depth layer: that of tensorflow-addons on Keras 2, otherwise `StochasticDepth`."""
    if hasattr(keras, "random"):
        return StochasticDepth(survival_probability, **kwargs)
    return compat.addons("drop_path_rate").layers.StochasticDepth(survival_probability, **kwargs)


def he_normal() -> keras.initializers.Initializer:
    """Return He initialization, N(0, 2 / fan_in), not truncated (He et al., "Delving Deep into Rectifiers", 2015)."""
    return keras.initializers.VarianceScaling(2.0, mode="fan_in", distribution="untruncated_normal")


def convolution(
    x: Any, filters: int, kernel: int, *, name: str, stride: int = 1, dilation: int = 1, dtype: Any = None
) -> Any:
    """Apply a convolution without bias, padded by the same number of zeros on both sides.

    Caffe, PyTorch and the paper's models pad symmetrically. TensorFlow's "same" pads strided convolutions more at the
    bottom and right, so these have a padding layer.

    Args:
        x: f32[B,H,W,C].
        filters: number of output channels.
        kernel: height and width of the kernel, odd.
        name: layer name, ending in `_conv`; the name of a padding layer ends in `_pad` instead.
        stride: stride of the convolution.
        dilation: dilation of the kernel.
        dtype: dtype policy of the layers.

    Returns:
        f32[B,ceil(H/stride),ceil(W/stride),filters].
    """
    padding = "same"
    if stride > 1:
        padding = "valid"
        if kernel > 1:
            margin = dilation * (kernel // 2)
            x = keras.layers.ZeroPadding2D(margin, name=name.replace("_conv", "_pad"), dtype=dtype)(x)
    layer = PointwiseConv2D if kernel == 1 else keras.layers.Conv2D
    if dilation > 1 and stride == 1 and kernel > 1:
        layer = DilatedConv2D
    return layer(
        filters,
        kernel,
        strides=stride,
        padding=padding,
        dilation_rate=dilation,
        use_bias=False,
        kernel_initializer=he_normal(),
        name=name,
        dtype=dtype,
    )(x)
