"""The fully convolutional form of a classifier: scores at every position of an image of any size (section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_resnet.errors import InputError
from keras_resnet.models.submodels import deep_recursion, submodel


class WindowAverage(keras.layers.Layer):
    """Average pooling with stride 1; the window is clipped to smaller maps: [B,H,W,C] -> [B,h,w,C].

    Args:
        window: height and width of the window; h = max(H - window + 1, 1).
    """

    def __init__(self, window: tuple[int, int], **kwargs: Any):
        super().__init__(**kwargs)
        self.window = window

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        rows, columns = (self._means(tf.shape(inputs)[axis], self.window[axis - 1], inputs.dtype) for axis in (1, 2))
        return tf.einsum("ph,bhwc,qw->bpqc", rows, inputs, columns)

    @staticmethod
    def _means(size: tf.Tensor, window: int, dtype: Any) -> tf.Tensor:
        """The matrix [size - window + 1, size] that averages `window` neighbors."""
        window = tf.minimum(window, size)
        ones = tf.linalg.band_part(tf.ones([size - window + 1, size], dtype), 0, window - 1)
        return ones / tf.cast(window, dtype)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        sides = [
            None if side is None else max(side - window + 1, 1)
            for side, window in zip(input_shape[1:3], self.window, strict=True)
        ]
        return (input_shape[0], *sides, input_shape[3])


def fully_convolutional(model: keras.Model) -> keras.Model:
    """Turn a network's head into convolutions, so that it computes scores at every position of larger images.

    Global pooling becomes average pooling over as many positions as the network has for its own input size, and the
    classifier a 1x1 convolution with the same weights. An image of the network's own size has one position, with the
    scores of the network.

    Args:
        model: f32[B,H,W,3] -> f32[B,K] for a fixed H and W, ending in global average pooling and a dense layer. It is
            not changed; the weights are copied.

    Returns:
        f32[B,h,w,3] -> f32[B,p,q,K] for any h and w.

    Raises:
        ValueError: the network has another head, or no fixed input size.
    """
    dense = model.layers[-1]
    pool = model.layers[-2] if len(model.layers) > 1 else None
    if not isinstance(dense, keras.layers.Dense) or not isinstance(pool, keras.layers.GlobalAveragePooling2D):
        raise InputError(
            f"model must end in GlobalAveragePooling2D and Dense to become fully convolutional; {model.name} ends in "
            + " and ".join(type(layer).__name__ for layer in model.layers[-2:])
            + "."
        )
    window = pool.input.shape[1:3]
    if None in window:
        raise InputError(f"model must have a fixed input size to become fully convolutional; got {model.input_shape}.")
    backbone = submodel(model, pool.input)
    with deep_recursion(len(model.layers)):
        anywhere = keras.Input((None, None, model.input_shape[-1]))
        copy = keras.models.clone_model(backbone, input_tensors=anywhere)
        copy.set_weights(backbone.get_weights())
        x = WindowAverage(tuple(window), name="window_pool", dtype=pool.dtype_policy)(copy.outputs[0])
        head = keras.layers.Conv2D(
            dense.units,
            1,
            activation=dense.activation,
            use_bias=dense.use_bias,
            name=dense.name,
            dtype=dense.dtype_policy,
        )
        result = keras.Model(anywhere, head(x), name=f"{model.name}_dense")
    kernel, *bias = dense.get_weights()
    head.set_weights([kernel[None, None], *bias])
    return result
