"""The heads of FCN, DeepLabv3 and DeepLabv3+: from feature maps to logits of the maps' size.

Layers have the names of this package: the layers `{name}_conv`, `{name}_bn` and `{name}_relu` of each convolution, and
`{name}_logits` with the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_resnet.models import blocks, layers
from keras_resnet.models.blocks import BlockOptions

ASPP_FILTERS = 256
"""Filters of each branch of DeepLab's pyramid pooling, and of the convolutions after it."""

LOW_LEVEL_FILTERS = 48
"""Filters to which DeepLabv3+ projects the maps of conv2_x."""

ASPP_RATES = (12, 24, 36)
"""Dilations of DeepLab's pyramid pooling at an output stride of 8; at 16 they are half of it."""


def aspp_rates(output_stride: int) -> tuple[int, ...]:
    """Return the dilations of the pyramid pooling: the same areas of the image at each output stride."""
    return tuple(rate * 8 // output_stride for rate in ASPP_RATES)


def fully_convolutional(x: Any, classes: int, *, dropout: float, name: str, options: BlockOptions) -> Any:
    """Apply the head of FCN, a 3x3 convolution to a quarter of the channels and the classifier.

    torchvision's form of it (Long et al., "Fully Convolutional Networks", 2015), which is also the auxiliary head.

    Args:
        x: f32[B,h,w,C].
        classes: number of classes K.
        dropout: probability of dropping a feature.
        name: prefix of the layer names.
        options: options of the network.

    Returns:
        f32[B,h,w,K].
    """
    x = _conv_bn_relu(x, x.shape[-1] // 4, 3, name=name, options=options)
    return logits(dropped(x, dropout, name=name, options=options), classes, name=name, options=options)


def pyramid_pooling(x: Any, rates: Sequence[int], *, dropout: float, options: BlockOptions) -> Any:
    """Apply atrous spatial pyramid pooling, ASPP (Chen et al., "Rethinking Atrous Convolution", 2017, section 3.3).

    A 1x1 convolution, 3x3 convolutions with the dilations `rates` and the pooled image, concatenated and projected.

    Args:
        x: f32[B,h,w,C].
        rates: the dilations.
        dropout: probability of dropping a feature after the projection.
        options: options of the network.

    Returns:
        f32[B,h,w,256].
    """
    dtype = options.dtype
    branches = [_conv_bn_relu(x, ASPP_FILTERS, 1, name="aspp1", options=options)]
    for number, rate in enumerate(rates, start=2):
        branches.append(_conv_bn_relu(x, ASPP_FILTERS, 3, name=f"aspp{number}", options=options, dilation=rate))
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, name="aspp_pool", dtype=dtype)(x)
    pooled = _conv_bn_relu(pooled, ASPP_FILTERS, 1, name="aspp_pool", options=options)
    branches.append(layers.ResizeLike(name="aspp_pool_resize", dtype=dtype)([pooled, x]))
    x = keras.layers.Concatenate(name="aspp_concat", dtype=dtype)(branches)
    x = _conv_bn_relu(x, ASPP_FILTERS, 1, name="aspp_project", options=options)
    return dropped(x, dropout, name="aspp", options=options)


def deeplabv3(x: Any, classes: int, rates: Sequence[int], *, dropout: float, options: BlockOptions) -> Any:
    """Apply the head of DeepLabv3 in torchvision's form: `pyramid_pooling`, a 3x3 convolution and the classifier.

    Args:
        x: f32[B,h,w,C].
        classes: number of classes K.
        rates: dilations of the pyramid pooling.
        dropout: as for `pyramid_pooling`.
        options: options of the network.

    Returns:
        f32[B,h,w,K].
    """
    x = pyramid_pooling(x, rates, dropout=dropout, options=options)
    x = _conv_bn_relu(x, ASPP_FILTERS, 3, name="head", options=options)
    return logits(x, classes, name="head", options=options)


def deeplabv3_plus(
    x: Any, low_level: Any, classes: int, rates: Sequence[int], *, dropout: float, options: BlockOptions
) -> Any:
    """Apply the head of DeepLabv3+: pyramid pooling refined by the maps of conv2_x (Chen et al., 2018, section 3.1).

    Args:
        x: f32[B,h,w,C].
        low_level: f32[B,H/4,W/4,C2], the output of conv2_x.
        classes: number of classes K.
        rates: dilations of the pyramid pooling.
        dropout: as for `pyramid_pooling`.
        options: options of the network.

    Returns:
        f32[B,H/4,W/4,K].
    """
    dtype = options.dtype
    x = pyramid_pooling(x, rates, dropout=dropout, options=options)
    x = layers.ResizeLike(name="decoder_resize", dtype=dtype)([x, low_level])
    low_level = _conv_bn_relu(low_level, LOW_LEVEL_FILTERS, 1, name="decoder_low", options=options)
    x = keras.layers.Concatenate(name="decoder_concat", dtype=dtype)([x, low_level])
    x = _conv_bn_relu(x, ASPP_FILTERS, 3, name="decoder1", options=options)
    x = _conv_bn_relu(x, ASPP_FILTERS, 3, name="decoder2", options=options)
    return logits(x, classes, name="head", options=options)


def logits(x: Any, classes: int, *, name: str, options: BlockOptions) -> Any:
    """Apply the classifier of each position, the layer `{name}_logits`; it computes in float32 under half precision."""
    return keras.layers.Conv2D(
        classes,
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        name=f"{name}_logits",
        dtype=logits_dtype(options),
    )(x)


def logits_dtype(options: BlockOptions) -> Any:
    """Return the dtype policy of the classifier and of the interpolation of its logits: float32 for half precision."""
    return "float32" if options.dtype.compute_dtype in ("float16", "bfloat16") else options.dtype


def dropped(x: Any, rate: float, *, name: str, options: BlockOptions) -> Any:
    """Apply dropout, the layer `{name}_dropout`."""
    return keras.layers.Dropout(rate, name=f"{name}_dropout", dtype=options.dtype)(x)


def _conv_bn_relu(x: Any, filters: int, kernel: int, *, name: str, options: BlockOptions, dilation: int = 1) -> Any:
    x = blocks.conv_bn(x, filters, kernel, name=name, options=options, dilation=dilation)
    return blocks.relu(x, name=f"{name}_relu", options=options)
