"""The layers that Keras lacks or computes slowly, and the convolution unit that every network is made of."""

from __future__ import annotations

import keras

from keras_resnet import compat

BATCH_NORM_EPSILON = 1e-5


@keras.saving.register_keras_serializable(package="keras_resnet")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation with TensorFlow's fused kernels (Ioffe and Szegedy, 2015).

    Same arguments, weights and results as `keras.layers.BatchNormalization`, whose weight files it reads and writes.
    Two things differ:

    * On TensorFlow, a 4-D channels-last input is normalised by one fused operation, which takes half-precision inputs
      without a float32 copy. Other backends, `synchronized=True`, masks and renorm use the parent's code.
    * Under `tf.distribute`, the moving statistics are averaged over replicas at each update. Keras 3 lets each replica
      keep its own, and they drift apart.

    The fused kernel's variance is the unbiased one; it is scaled back, so that the moving variance is the biased one
    that Keras 3 keeps on every backend.
    """

    def add_weight(self, *args, name=None, **kwargs):
        if name in ("moving_mean", "moving_variance"):
            kwargs.setdefault("aggregation", "mean")
        return super().add_weight(*args, name=name, **kwargs)

    def _can_fuse(self, inputs, mask) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and mask is None
            and not self.synchronized
            and not self.renorm
            and self.center
            and self.scale
            and len(inputs.shape) == 4
            and self.axis in (-1, 3, [3])
            and compat.standardize_dtype(inputs.dtype) in ("float32", "float16", "bfloat16")
        )

    def call(self, inputs, training=None, mask=None):
        if not self._can_fuse(inputs, mask):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf  # only reached on the TensorFlow backend

        training = bool(training) and self.trainable
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            # In training the kernel takes the batch's statistics, and wants these empty.
            mean=tf.constant([], tf.float32) if training else tf.convert_to_tensor(self.moving_mean),
            variance=tf.constant([], tf.float32) if training else tf.convert_to_tensor(self.moving_variance),
            epsilon=self.epsilon,
            data_format="NHWC",
            is_training=training,
        )
        if training:
            count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
            variance *= (count - 1.0) / count
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                update = moving * self.momentum + batch * (1.0 - self.momentum)
                # The statistics of no images, as a replica gets of a last batch that is too small, are NaN.
                moving.assign(tf.where(count > 0, update, tf.convert_to_tensor(moving)))
        return outputs


@keras.saving.register_keras_serializable(package="keras_resnet")
class IdentityShortcut(keras.layers.Layer):
    """Shortcut option A (section 3.3): subsampling and zero channels, no parameters.

    f32[B,H,W,C] -> f32[B,ceil(H/stride),ceil(W/stride),filters].

    Args:
        filters: channels of the output, at least those of the input.
        stride: every `stride`-th row and column is kept, the first among them.
        zero_channels: where the added zeros go, which the paper does not say. "halves" puts half before and half after
            the input's channels (the widely used CIFAR-10 checkpoints of akamaster/pytorch_resnet_cifar10); "after"
            puts all behind them.
    """

    def __init__(self, filters, stride=1, zero_channels="halves", **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.stride = stride
        self.zero_channels = zero_channels

    def call(self, inputs):
        added = self.filters - inputs.shape[-1]
        before = added // 2 if self.zero_channels == "halves" else 0
        # Pooling over windows of one pixel: TensorFlow's strided slices and their gradients take twice as long.
        x = compat.average_pool(inputs, 1, self.stride, "valid") if self.stride > 1 else inputs
        return compat.pad(x, [[0, 0], [0, 0], [0, 0], [before, added - before]])

    def compute_output_shape(self, input_shape):
        batch, *size, _ = input_shape
        return (batch, *(None if side is None else -(-side // self.stride) for side in size), self.filters)

    def get_config(self):
        own = {"filters": self.filters, "stride": self.stride, "zero_channels": self.zero_channels}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="keras_resnet")
class StochasticDepth(keras.layers.Layer):
    """`shortcut + keep * residual` with a residual function that whole batches skip (Huang et al., 2016).

    In training `keep` is 1 with the given probability and otherwise 0, one draw for the batch; in testing it is the
    probability. It is `tfa.layers.StochasticDepth` on Keras 3.

    Args:
        survival_probability: of the residual function, in (0, 1].
    """

    def __init__(self, survival_probability=0.5, **kwargs):
        super().__init__(**kwargs)
        self.survival_probability = survival_probability
        self.seed_generator = compat.SeedGenerator()

    def call(self, inputs, training=False):
        shortcut, residual = inputs
        keep = self.survival_probability
        if training:
            drawn = keras.random.uniform((), seed=self.seed_generator) < keep
            keep = compat.cast(drawn, residual.dtype)
        return shortcut + keep * residual

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "survival_probability": self.survival_probability}


def stochastic_depth(survival_probability: float, **kwargs) -> keras.layers.Layer:
    """Make the layer that adds a residual function of a given probability: tensorflow-addons' where that is there."""
    if hasattr(keras, "random"):
        return StochasticDepth(survival_probability, **kwargs)
    return compat.addons("drop_path_rate").layers.StochasticDepth(survival_probability, **kwargs)


def he_normal():
    """Return He initialisation, N(0, 2 / fan-in), untruncated: He et al., "Delving Deep into Rectifiers" (2015)."""
    return keras.initializers.VarianceScaling(2.0, mode="fan_in", distribution="untruncated_normal")


def convolution(x, filters, kernel, *, name, stride=1, dilation=1, dtype=None):
    """Convolve without bias, padded by the same number of zeros on both sides.

    TensorFlow's "same" pads strided convolutions more at the bottom and right; Caffe, PyTorch and the paper's models
    pad evenly.

    Args:
        x: f32[B,H,W,C].
        filters: output channels.
        kernel: odd side of the kernel.
        name: layer name; a padding layer gets the name with `_pad` for `_conv`.
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
    return keras.layers.Conv2D(
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
