"""The building blocks of sections 3 and 4.1: basic and bottleneck residual functions, shortcuts, and stages."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import keras

from keras_resnet.errors import InputError
from keras_resnet.models import layers
from keras_resnet.models.architectures import EXPANSION, needs_projection


@dataclasses.dataclass(frozen=True)
class BlockOptions:
    """What all blocks of a network share.

    Attributes:
        block: "basic" or "bottleneck".
        shortcut: "A", "B" or "C" (section 3.3); None for a plain net.
        stride_in_1x1: where a bottleneck's stride is: True for the first 1x1 (the paper), False for the 3x3 (v1.5).
        zero_init_residual: start the last batch norm of each residual function at gamma 0, so that each block starts
            as its shortcut (Goyal et al., 2017).
        zero_channels: where option A puts its zeros, "halves" or "after"; see `layers.IdentityShortcut`.
        batch_norm_momentum: share of the old value in the moving statistics.
        synchronized: batch statistics over all replicas of a `tf.distribute` strategy.
        dtype: dtype policy of the layers; None for Keras' global one.
    """

    block: str = "bottleneck"
    shortcut: str | None = "B"
    stride_in_1x1: bool = True
    zero_init_residual: bool = False
    zero_channels: str = "halves"
    batch_norm_momentum: float = 0.9
    synchronized: bool = False
    dtype: object = None


def conv_bn(x, filters, kernel, *, name, options, stride=1, dilation=1, gamma="ones"):
    """Convolution and batch norm, layers `{name}_conv` and `{name}_bn`; arguments as `layers.convolution`."""
    x = layers.convolution(
        x, filters, kernel, name=f"{name}_conv", stride=stride, dilation=dilation, dtype=options.dtype
    )
    return layers.BatchNormalization(
        momentum=options.batch_norm_momentum,
        epsilon=layers.BATCH_NORM_EPSILON,
        gamma_initializer=gamma,
        synchronized=options.synchronized,
        name=f"{name}_bn",
        dtype=options.dtype,
    )(x)


def relu(x, *, name, options):
    """The nonlinearity, layer `name`."""
    return keras.layers.Activation("relu", name=name, dtype=options.dtype)(x)


def shortcut(x, filters, stride, *, name, options, dilated=False):
    """The shortcut of one block by option A, B or C of section 3.3.

    f32[B,H,W,C] -> f32[B,ceil(H/stride),ceil(W/stride),filters]; the input itself where nothing has to change.

    `dilated` says that the block's stride became a dilation: it keeps the projection that its stride called for.
    """
    if needs_projection(options.shortcut, changes=dilated or stride != 1 or x.shape[-1] != filters):
        return conv_bn(x, filters, 1, name=f"{name}_0", options=options, stride=stride)
    if stride != 1 or x.shape[-1] != filters:
        if filters < x.shape[-1]:
            raise InputError(f"shortcut 'A' cannot reduce {x.shape[-1]} channels to {filters}; use 'B' or 'C'.")
        return layers.IdentityShortcut(
            filters, stride, options.zero_channels, name=f"{name}_0_identity", dtype=options.dtype
        )(x)
    return x


def basic(x, filters, stride, dilations, *, name, options):
    """The basic residual function, two 3x3 convolutions (Figure 5, left), up to its last batch norm."""
    gamma = "zeros" if options.zero_init_residual else "ones"
    x = conv_bn(x, filters, 3, name=f"{name}_1", options=options, stride=stride, dilation=dilations[0])
    x = relu(x, name=f"{name}_1_relu", options=options)
    return conv_bn(x, filters, 3, name=f"{name}_2", options=options, dilation=dilations[1], gamma=gamma)


def bottleneck(x, filters, stride, dilations, *, name, options):
    """The bottleneck residual function, 1x1, 3x3, 1x1 (Figure 5, right), up to its last batch norm."""
    gamma = "zeros" if options.zero_init_residual else "ones"
    first, second = (stride, 1) if options.stride_in_1x1 else (1, stride)
    # A 3x3 that comes after the stride sees the coarser map, and one that carries it the finer.
    dilation = dilations[1] if options.stride_in_1x1 else dilations[0]
    x = conv_bn(x, filters, 1, name=f"{name}_1", options=options, stride=first)
    x = relu(x, name=f"{name}_1_relu", options=options)
    x = conv_bn(x, filters, 3, name=f"{name}_2", options=options, stride=second, dilation=dilation)
    x = relu(x, name=f"{name}_2_relu", options=options)
    return conv_bn(x, filters * EXPANSION["bottleneck"], 1, name=f"{name}_3", options=options, gamma=gamma)


RESIDUAL_FUNCTIONS = {"basic": basic, "bottleneck": bottleneck}


def block(x, filters, stride=1, *, name, options, dilations=(1, 1), drop_rate=0.0):
    """One block, `relu(residual(x) + shortcut(x))` (equations 1 and 2), or without shortcut `relu(residual(x))`.

    Args:
        x: f32[B,H,W,C].
        filters: filters of the 3x3 convolutions.
        stride: stride of the block.
        name: prefix of the layer names; the block's output is layer `{name}_out`.
        options: a `BlockOptions`.
        dilations: dilation of 3x3 convolutions that see the block's input map, and of those behind its stride.
        drop_rate: how often the residual function is skipped in training; see `layers.StochasticDepth`.

    Returns:
        f32[B,ceil(H/stride),ceil(W/stride),filters * expansion].
    """
    identity = x
    if options.shortcut is not None:
        # Before the residual function, as in keras.applications: it fixes the order of `model.layers`.
        dilated = dilations[0] != dilations[1]
        identity = shortcut(x, filters * EXPANSION[options.block], stride, name=name, options=options, dilated=dilated)
    x = RESIDUAL_FUNCTIONS[options.block](x, filters, stride, dilations, name=name, options=options)
    if options.shortcut is not None:
        kind = functools.partial(layers.stochastic_depth, 1.0 - drop_rate) if drop_rate else keras.layers.Add
        x = kind(name=f"{name}_add", dtype=options.dtype)([identity, x])
    return relu(x, name=f"{name}_out", options=options)


def stage(
    x,
    filters,
    blocks,
    stride=1,
    *,
    name,
    options=None,
    dilation=1,
    previous_dilation=None,
    drop_rates: Sequence[float] = (),
):
    """A stage such as conv5_x: `blocks` blocks, the first with the stride.

    It can be applied again to other tensors, as detection does with conv5_x on regions.

    Args:
        x: f32[B,H,W,C].
        filters: filters of the 3x3 convolutions.
        blocks: number of blocks.
        stride: stride of the first block.
        name: "conv2" .. "conv5"; the stage's output is layer `{name}_block{blocks}_out`.
        options: a `BlockOptions`; by default those of ResNet-50.
        dilation: dilation of the stage's 3x3 convolutions, for dense tasks.
        previous_dilation: dilation before the stage, for a stage whose stride became a dilation; by default `dilation`.
        drop_rates: of each block; see `block`.

    Returns:
        f32[B,ceil(H/stride),ceil(W/stride),filters * expansion].
    """
    options = options or BlockOptions()
    first = (dilation if previous_dilation is None else previous_dilation, dilation)
    for number in range(1, blocks + 1):
        x = block(
            x,
            filters,
            stride if number == 1 else 1,
            name=f"{name}_block{number}",
            options=options,
            dilations=first if number == 1 else (dilation, dilation),
            drop_rate=drop_rates[number - 1] if drop_rates else 0.0,
        )
    return x
