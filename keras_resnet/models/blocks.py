"""The building blocks of sections 3 and 4.1: basic and bottleneck residual functions, shortcuts, and stages."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import keras

from keras_resnet.errors import InputError
from keras_resnet.models import layers
from keras_resnet.models.architectures import EXPANSION, needs_projection


@dataclasses.dataclass(frozen=True)
class BlockOptions:
    """The options that all blocks of a network share.

    Attributes:
        block: "basic" or "bottleneck".
        shortcut: "A", "B" or "C" (section 3.3); None for a plain network.
        stride_in_1x1: whether bottlenecks have their stride in the first 1x1 convolution (the paper) rather than in the
            3x3 (v1.5).
        zero_init_residual: initialize gamma of the last batch norm of each residual function with 0, so that each block
            starts as its shortcut (Goyal et al., 2017).
        zero_channels: where option A inserts its zeros, "halves" or "after"; see `layers.IdentityShortcut`.
        batch_norm_momentum: weight of the old value in the moving statistics.
        synchronized: compute batch statistics over all replicas of a `tf.distribute` strategy.
        dtype: dtype policy of the layers; None for Keras' global policy.
    """

    block: str = "bottleneck"
    shortcut: str | None = "B"
    stride_in_1x1: bool = True
    zero_init_residual: bool = False
    zero_channels: str = "halves"
    batch_norm_momentum: float = 0.9
    synchronized: bool = False
    dtype: Any = None


def conv_bn(
    x: Any,
    filters: int,
    kernel: int,
    *,
    name: str,
    options: BlockOptions,
    stride: int = 1,
    dilation: int = 1,
    gamma: str = "ones",
) -> Any:
    """Apply a convolution and batch norm, the layers `{name}_conv` and `{name}_bn`.

    Args:
        x: f32[B,H,W,C].
        filters: number of output channels.
        kernel: height and width of the kernel, odd.
        name: prefix of the layer names.
        options: options of the network.
        stride: stride of the convolution.
        dilation: dilation of the kernel.
        gamma: initializer of the batch norm's gamma.

    Returns:
        f32[B,ceil(H/stride),ceil(W/stride),filters].
    """
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


def relu(x: Any, *, name: str, options: BlockOptions) -> Any:
    """Apply ReLU, the layer `name`."""
    return keras.layers.Activation("relu", name=name, dtype=options.dtype)(x)


def shortcut(x: Any, filters: int, stride: int, *, name: str, options: BlockOptions, dilated: bool = False) -> Any:
    """Apply a block's shortcut by option A, B or C of section 3.3.

    Args:
        x: f32[B,H,W,C], the input of the block.
        filters: number of output channels of the block.
        stride: stride of the block.
        name: prefix of the block's layer names.
        options: options of the network.
        dilated: whether dilation replaces the block's stride; the block keeps the projection that the stride required.

    Returns:
        f32[B,ceil(H/stride),ceil(W/stride),filters]; `x` itself if its shape does not change.

    Raises:
        ValueError: option A would have to reduce the number of channels.
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


def basic(x: Any, filters: int, stride: int, dilations: tuple[int, int], *, name: str, options: BlockOptions) -> Any:
    """Apply the basic residual function up to its last batch norm: two 3x3 convolutions (Figure 5, left).

    The arguments are those of `block`; the first convolution has the stride.
    """
    gamma = "zeros" if options.zero_init_residual else "ones"
    x = conv_bn(x, filters, 3, name=f"{name}_1", options=options, stride=stride, dilation=dilations[0])
    x = relu(x, name=f"{name}_1_relu", options=options)
    return conv_bn(x, filters, 3, name=f"{name}_2", options=options, dilation=dilations[1], gamma=gamma)


def bottleneck(
    x: Any, filters: int, stride: int, dilations: tuple[int, int], *, name: str, options: BlockOptions
) -> Any:
    """Apply the bottleneck residual function up to its last batch norm: 1x1, 3x3, 1x1 (Figure 5, right).

    The arguments are those of `block`; the last convolution has four times as many filters as the others.
    """
    gamma = "zeros" if options.zero_init_residual else "ones"
    first, second = (stride, 1) if options.stride_in_1x1 else (1, stride)
    # After the stride the 3x3 convolution sees the coarser map; with the stride it sees the finer one.
    dilation = dilations[1] if options.stride_in_1x1 else dilations[0]
    x = conv_bn(x, filters, 1, name=f"{name}_1", options=options, stride=first)
    x = relu(x, name=f"{name}_1_relu", options=options)
    x = conv_bn(x, filters, 3, name=f"{name}_2", options=options, stride=second, dilation=dilation)
    x = relu(x, name=f"{name}_2_relu", options=options)
    return conv_bn(x, filters * EXPANSION["bottleneck"], 1, name=f"{name}_3", options=options, gamma=gamma)


RESIDUAL_FUNCTIONS = {"basic": basic, "bottleneck": bottleneck}


def block(
    x: Any,
    filters: int,
    stride: int = 1,
    *,
    name: str,
    options: BlockOptions,
    dilations: tuple[int, int] = (1, 1),
    drop_rate: float = 0.0,
) -> Any:
    """Apply a block: `relu(residual(x) + shortcut(x))` (equations 1 and 2), or `relu(residual(x))` in a plain network.

    Args:
        x: f32[B,H,W,C].
        filters: number of filters of the 3x3 convolutions.
        stride: stride of the block.
        name: prefix of the layer names; the block's output is layer `{name}_out`.
        options: options of the network.
        dilations: dilation of 3x3 convolutions on the block's input map, and of those after the block's stride.
        drop_rate: probability of skipping the residual function in training; see `layers.StochasticDepth`.

    Returns:
        f32[B,ceil(H/stride),ceil(W/stride),filters * expansion].
    """
    identity = x
    if options.shortcut is not None:
        # Before the residual function, for the order of `model.layers` in keras.applications.
        dilated = dilations[0] != dilations[1]
        identity = shortcut(x, filters * EXPANSION[options.block], stride, name=name, options=options, dilated=dilated)
    x = RESIDUAL_FUNCTIONS[options.block](x, filters, stride, dilations, name=name, options=options)
    if options.shortcut is None:
        return relu(x, name=f"{name}_out", options=options)
    add = functools.partial(layers.stochastic_depth, 1.0 - drop_rate) if drop_rate else keras.layers.Add
    x = add(name=f"{name}_add", dtype=options.dtype)([identity, x])
    return layers.ReLU(name=f"{name}_out", dtype=options.dtype)(x)


def stage(
    x: Any,
    filters: int,
    blocks: int,
    stride: int = 1,
    *,
    name: str,
    options: BlockOptions | None = None,
    dilation: int = 1,
    previous_dilation: int | None = None,
    multi_grid: Sequence[int] = (),
    drop_rates: Sequence[float] = (),
) -> Any:
    """Apply a stage such as conv5_x: `blocks` blocks, of which the first has the stride.

    Args:
        x: f32[B,H,W,C].
        filters: number of filters of the 3x3 convolutions.
        blocks: number of blocks.
        stride: stride of the first block.
        name: "conv2" .. "conv5"; the stage's output is layer `{name}_block{blocks}_out`.
        options: options of the network; by default those of ResNet-50.
        dilation: dilation of the 3x3 convolutions, for dense prediction.
        previous_dilation: dilation of the previous stage, if dilation replaces the stride of this one; by default
            `dilation`.
        multi_grid: factor of the dilations of each block (Chen et al., 2017, section 3.1); by default 1.
        drop_rates: `drop_rate` of each block; see `block`.

    Returns:
        f32[B,ceil(H/stride),ceil(W/stride),filters * expansion].
    """
    options = options or BlockOptions()
    previous = dilation if previous_dilation is None else previous_dilation
    for number in range(1, blocks + 1):
        factor = multi_grid[number - 1] if multi_grid else 1
        x = block(
            x,
            filters,
            stride if number == 1 else 1,
            name=f"{name}_block{number}",
            options=options,
            dilations=(factor * (previous if number == 1 else dilation), factor * dilation),
            drop_rate=drop_rates[number - 1] if drop_rates else 0.0,
        )
    return x
