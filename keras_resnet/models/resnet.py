"""The builder of all networks, and a constructor for each network of the paper.

    model = keras_resnet.ResNet50(classes=10)
    model = keras_resnet.ResNet([(16, 1, 1)], block="basic", stem="cifar", input_shape=(8, 8, 3), classes=2)

Arguments and layer names follow keras.applications; the output of a stage with n blocks is layer `conv2_block{n}_out`.
Unlike the networks there, these are random unless `weights` is given, and nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import logging
import math
import numbers
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from keras_resnet import compat
from keras_resnet.errors import InputError, check_choice, integer
from keras_resnet.models import arguments, blocks, layers
from keras_resnet.models import weights as weight_files
from keras_resnet.models.architectures import ARCHITECTURES, EXPANSION, LAYERS_PER_BLOCK, STEMS, Stage, Stem, find
from keras_resnet.models.features import of_indices
from keras_resnet.models.recomputation import RecomputingModel
from keras_resnet.models.submodels import deep_recursion
from keras_resnet.models.weights import published

MINIMUM_SIZE = {"imagenet": 32, "cifar": 8}
"""Stem -> minimum height and width in pixels: 32 as in keras.applications; 8 leaves 2x2 maps for CIFAR's last stage."""

logger = logging.getLogger(__name__)


@arguments.hinted
def ResNet(
    stages: Sequence[tuple[int, int, int]],
    *,
    block: str = "bottleneck",
    stem: str = "imagenet",
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable[..., Any] | None = "softmax",
    name: str = "resnet",
    shortcut: str | None = "B",
    stride_in_1x1: bool | None = None,
    zero_init_residual: bool = False,
    zero_channels: str = "halves",
    batch_norm_momentum: float = 0.9,
    synchronized: bool = False,
    output_stride: int | None = None,
    multi_grid: Sequence[int] | None = None,
    drop_path_rate: float = 0.0,
    recompute: bool = False,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    dtype: Any = None,
) -> keras.Model:
    """Build a residual or plain network from a list of stages (Table 1 and section 4.2).

    Args:
        stages: (filters, blocks, stride) of each stage from conv2_x on, e.g. `[(64, 3, 1), (128, 4, 2), (256, 6, 2),
            (512, 3, 2)]`.
        block: "basic" (two 3x3 convolutions) or "bottleneck" (1x1, 3x3, 1x1, with four times the filters as output).
        stem: "imagenet" (7x7 convolution of stride 2, 3x3 max pooling of stride 2) or "cifar" (3x3 convolution).
        include_top: whether to include global average pooling and the classifier.
        weights: None for random initialization, which is the default here and "imagenet" in keras.applications; a name
            such as "imagenet" (see `list_weights`); or the path of a weights file in this package's,
            keras.applications' or PyTorch's format. If the weights were trained for other classes, the classifier keeps
            its random initialization; if the number of input channels differs, the first convolution is adapted.
            `load_weights` loads a file into a built network.
        input_tensor: Keras tensor to use as the image input instead of a new `keras.Input`.
        input_shape: (height, width, channels); height and width may be None. Defaults to (224, 224, 3) for the
            ImageNet stem, (32, 32, 3) for the CIFAR stem, and (None, None, 3) if `include_top` is False.
        pooling: with `include_top=False`: None for the feature maps of the last stage, "avg" or "max" for global
            pooling.
        classes: number of classes, of any integral type.
        classifier_activation: activation of the classifier; None returns logits.
        name: name of the model.
        shortcut: "A" (parameter-free), "B" (projections where dimensions change), "C" (projections everywhere), or
            None for a plain network (section 3.3).
        stride_in_1x1: whether bottlenecks have their stride in the first 1x1 convolution (the paper, "v1") rather than
            in the 3x3 ("v1.5", torchvision). By default as the published weights require, otherwise True.
        zero_init_residual: initialize gamma of the last batch norm of each residual function with 0 (Goyal et al.,
            2017).
        zero_channels: where option A inserts its zero channels: "halves" (before and after) or "after".
        batch_norm_momentum: weight of the old value in the moving statistics, in [0, 1). The paper does not state it;
            0.9 is the value of fb.resnet.torch.
        synchronized: compute batch statistics over all replicas of a `tf.distribute` strategy.
        output_stride: stride of the last feature map with respect to the image. Defaults to the product of all strides
            (32 for ImageNet networks); smaller values replace the last strides by dilation, which computes the same
            features more densely.
        multi_grid: factors of the dilations in the blocks of the last stage, such as (1, 2, 4) for conv5_x in DeepLabv3
            (Chen et al., "Rethinking Atrous Convolution", 2017, section 3.1). By default all are 1.
        drop_path_rate: probability of skipping the last block's residual function in training, in [0, 1). It grows
            linearly from 0 over the blocks (Huang et al., "Deep Networks with Stochastic Depth", 2016).
        recompute: keep only the inputs of blocks during training and recompute their insides for the gradient. The
            updates are the same, with less memory and about a third more time.
        features_only: return the feature pyramid of the network without its top, a model with a dictionary of outputs;
            see `features`.
        out_indices: with `features_only`, the levels of the pyramid: 0 for C1, the stem, 1 for C2, ...; by default all.
        dtype: dtype policy, e.g. "mixed_bfloat16"; by default Keras' global policy. With half precision, global
            pooling and the classifier compute in float32.

    Returns:
        A functional `keras.Model`, f32[B,H,W,C] -> f32[B,classes] (probabilities by default). Without the top its
        output is f32[B,h,w,F], or f32[B,F] with pooling; a dictionary of feature maps with `features_only`.

    Raises:
        ValueError: an argument is invalid, or the weights file does not fit the network.
    """
    if compat.image_data_format() != "channels_last":
        raise InputError(
            f"Keras' image_data_format must be 'channels_last' to build a network; got {compat.image_data_format()!r}. "
            "For channels-first images, pass input_tensor=keras.layers.Permute((2, 3, 1))(inputs)."
        )
    _check_include_top(include_top)
    stages = _check_stages(stages)
    check_choice("block", block, EXPANSION)
    check_choice("stem", stem, STEMS)
    check_choice("shortcut", shortcut, ("A", "B", "C", None))
    check_choice("zero_channels", zero_channels, ("halves", "after"))
    check_choice("pooling", pooling, (None, "avg", "max"))
    if include_top:
        classes = integer("classes", classes, minimum=1)
        _check_activation(classifier_activation, classes)
    if not _in_unit_interval(batch_norm_momentum):
        raise InputError(f"batch_norm_momentum must be in [0, 1); got {batch_norm_momentum!r}.")
    if not _in_unit_interval(drop_path_rate) or (drop_path_rate and shortcut is None):
        raise InputError(f"drop_path_rate must be in [0, 1), and 0 for a plain net; got {drop_path_rate!r}.")
    if recompute and drop_path_rate:
        raise InputError("recompute cannot be combined with drop_path_rate: recomputing would skip different blocks.")
    if recompute and not hasattr(keras, "remat"):
        raise InputError(f"recompute requires Keras 3 (keras.remat); the installed version is {keras.__version__}.")
    if out_indices is not None and not features_only:
        raise InputError(f"out_indices requires features_only=True; got {out_indices!r}.")
    if features_only and (pooling is not None or recompute):
        given = "recompute" if recompute else "pooling"
        raise InputError(f"features_only cannot be combined with {given}: the result has the feature maps of stages.")
    include_top = include_top and not features_only
    dilations = _dilations(stages, STEMS[stem].total_stride, output_stride)
    multi_grid = _check_multi_grid(multi_grid, stages, dilations)
    if info := published.find(weights, _paper_name(stem, block, stages, shortcut), optional=True):
        if stride_in_1x1 is None:
            stride_in_1x1 = info.stride_in_1x1
        weights = published.fetch(info)
    stride_in_1x1 = True if stride_in_1x1 is None else stride_in_1x1
    dtype = compat.policy_of(dtype) if dtype is not None else compat.dtype_policy()
    options = blocks.BlockOptions(
        block, shortcut, stride_in_1x1, zero_init_residual, zero_channels, batch_norm_momentum, synchronized, dtype
    )

    inputs = _image_input(stem, input_tensor, input_shape, include_top)
    x = _stem(inputs, STEMS[stem], options)
    previous, total = 1, sum(stage.blocks for stage in stages)
    drop_rates = iter([drop_path_rate * block / total for block in range(1, total + 1)])
    for number, ((filters, count, stride), dilation) in enumerate(zip(stages, dilations, strict=True), start=2):
        x = blocks.stage(
            x,
            filters,
            count,
            1 if dilation != previous else stride,
            name=f"conv{number}",
            options=options,
            dilation=dilation,
            previous_dilation=previous,
            multi_grid=multi_grid if number == len(stages) + 1 else (),
            drop_rates=list(itertools.islice(drop_rates, count)),
        )
        previous = dilation
    x = _head(x, include_top, pooling, classes, classifier_activation, dtype)

    sources = keras.utils.get_source_inputs(inputs)
    source = sources[0] if len(sources) == 1 else sources
    with deep_recursion(LAYERS_PER_BLOCK[block] * total):
        model = (RecomputingModel if recompute else keras.Model)(source, x, name=name)
    if weights is not None:
        weight_files.load(model, weights, adapt=True)
    return of_indices(model, out_indices) if features_only else model


def _paper_name(stem: str, block: str, stages: tuple[Stage, ...], shortcut: str | None) -> str:
    """Return the lower-case name of the paper's network with these stages; "resnet" if there is none."""
    for net in ARCHITECTURES.values():
        plain = (net.shortcut is None, shortcut is None)
        if (net.stem, net.block, net.stages) == (stem, block, stages) and plain[0] == plain[1]:
            return net.name.lower()
    return "resnet"


def _in_unit_interval(value: Any) -> bool:
    """Whether a value is a number in [0, 1)."""
    return isinstance(value, numbers.Real) and 0 <= float(value) < 1


def _check_include_top(include_top: Any) -> None:
    """Raise `InputError` for another argument in the first position, which would count as true."""
    if not isinstance(include_top, (bool, np.bool_)):
        meant = {int: "classes", str: "weights", tuple: "input_shape"}.get(type(include_top))
        hint = f" Pass {meant}={include_top!r} by name." if meant else ""
        raise InputError(f"include_top must be True or False; got {include_top!r}.{hint}")


def _check_activation(activation: Any, classes: int) -> None:
    """Warn of a softmax over one class, which is always 1."""
    if classes == 1 and getattr(activation, "__name__", activation) == "softmax":
        logger.warning(
            "with classes=1 and classifier_activation='softmax' the output is always 1; use 'sigmoid' or None (logits)"
        )


def _check_stages(stages: Any) -> tuple[Stage, ...]:
    checked: tuple[Stage, ...] = ()
    with contextlib.suppress(TypeError, InputError):
        checked = tuple(Stage(*(integer("stages", number, minimum=1) for number in stage)) for stage in stages)
    if not checked:
        raise InputError(
            f"stages must be a list of (filters, blocks, stride), all integers of at least 1; got {stages!r}."
        )
    return checked


def _dilations(stages: Sequence[Stage], stem_stride: int, output_stride: int | None) -> list[int]:
    """Return the dilation of each stage that gives the last feature map a stride of `output_stride`."""
    total_stride = stem_stride * math.prod(stage.stride for stage in stages)
    possible = [total_stride]
    for stage in reversed(stages):
        if stage.stride > 1:
            possible.append(possible[-1] // stage.stride)
    if output_stride is not None:
        output_stride = integer("output_stride", output_stride)
    check_choice("output_stride", output_stride, (None, *possible))
    dilations, stride, dilation = [], stem_stride, 1
    for stage in stages:
        if stride * stage.stride > (output_stride or total_stride):
            dilation *= stage.stride
        else:
            stride *= stage.stride
        dilations.append(dilation)
    return dilations


def _check_multi_grid(
    multi_grid: Sequence[int] | None, stages: Sequence[Stage], dilations: Sequence[int]
) -> tuple[int, ...]:
    """Return the factors of the dilations in the last stage; () if all are 1."""
    if multi_grid is None:
        return ()
    factors: tuple[int, ...] = ()
    with contextlib.suppress(TypeError, InputError):
        factors = tuple(integer("multi_grid", factor, minimum=1) for factor in multi_grid)
    last = stages[-1]
    if len(factors) != last.blocks:
        blocks = "the block" if last.blocks == 1 else f"each of the {last.blocks} blocks"
        raise InputError(
            f"multi_grid must be integers of at least 1, one for {blocks} of the last stage; got {multi_grid!r}."
        )
    if factors[0] > 1 and last.stride > 1 and dilations[-1] == [1, *dilations][-2]:
        raise InputError(
            f"multi_grid must begin with 1 where the last stage has a stride; got {multi_grid!r}. A smaller "
            "output_stride replaces the stride by dilation."
        )
    return factors


def _image_input(
    stem: str, input_tensor: Any, input_shape: tuple[int | None, int | None, int] | None, include_top: bool
) -> Any:
    """Return the Keras tensor of the images, after validating its shape."""
    if input_tensor is not None:
        if compat.is_keras_tensor(input_tensor):
            shape = tuple(input_tensor.shape[1:])
            if input_shape is not None and tuple(input_shape) != shape:
                raise InputError(f"input_shape must be that of input_tensor, {shape}, or None; got {input_shape!r}.")
            input_shape = shape
        else:
            raise InputError(
                "input_tensor must be a Keras tensor, such as keras.Input(...); got an object of type "
                f"{type(input_tensor).__name__}."
            )
    elif input_shape is None:
        side = {"imagenet": 224, "cifar": 32}[stem] if include_top else None
        input_shape = (side, side, 3)
    minimum = MINIMUM_SIZE[stem]
    allowed = f"(height, width, channels) with sides of at least {minimum} pixels or None and at least 1 channel"
    try:
        height, width, channels = (side if side is None else integer("input_shape", side) for side in input_shape)
        valid = all(side is None or side >= minimum for side in (height, width))
        valid = valid and channels is not None and channels >= 1
    except (TypeError, ValueError):
        valid = False
    if not valid:
        hint = ""
        if isinstance(input_shape, (tuple, list)) and len(input_shape) == 3 and input_shape[0] in (1, 3):
            hint = " Images are channels-last here."
        raise InputError(f"input_shape must be {allowed}; got {input_shape!r}.{hint}")
    # `model.export` uses this name for the input; Keras' default name counts the models built so far.
    return keras.Input((height, width, channels), name="inputs") if input_tensor is None else input_tensor


def _stem(x: Any, stem: Stem, options: blocks.BlockOptions) -> Any:
    """Apply conv1 and, for ImageNet, the max pooling that the paper counts as part of conv2_x."""
    x = blocks.conv_bn(x, stem.filters, stem.kernel, name="conv1", options=options, stride=stem.stride)
    x = blocks.relu(x, name="conv1_relu", options=options)
    if stem.pool:
        # After a ReLU, padding with zeros has the same effect as padding with minus infinity.
        x = keras.layers.ZeroPadding2D(1, name="pool1_pad", dtype=options.dtype)(x)
        x = keras.layers.MaxPooling2D(3, strides=2, name="pool1_pool", dtype=options.dtype)(x)
    return x


def _head(
    x: Any,
    include_top: bool,
    pooling: str | None,
    classes: int,
    activation: str | Callable[..., Any] | None,
    dtype: Any,
) -> Any:
    """Apply global pooling and the classifier, in float32 if the network computes in half precision."""
    if dtype.compute_dtype in ("float16", "bfloat16"):
        dtype = "float32"
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(name="avg_pool", dtype=dtype)(x)
        return keras.layers.Dense(
            classes, activation=activation, kernel_initializer=layers.he_normal(), name="predictions", dtype=dtype
        )(x)
    if pooling == "avg":
        return keras.layers.GlobalAveragePooling2D(name="avg_pool", dtype=dtype)(x)
    if pooling == "max":
        return keras.layers.GlobalMaxPooling2D(name="max_pool", dtype=dtype)(x)
    return x


class ResidualConstructor(Protocol):
    """The constructor of a residual network of the paper.

    The positional arguments are those of keras.applications, in its order; `...` stands for a default that depends on
    the network. See `ResNet` for what each argument does.
    """

    def __call__(
        self,
        include_top: bool = True,
        weights: str | os.PathLike[str] | None = None,
        input_tensor: Any = None,
        input_shape: tuple[int | None, int | None, int] | None = None,
        pooling: str | None = None,
        classes: int = ...,
        classifier_activation: str | Callable[..., Any] | None = "softmax",
        name: str = ...,
        *,
        shortcut: str | None = ...,
        stride_in_1x1: bool | None = None,
        zero_init_residual: bool = False,
        zero_channels: str = "halves",
        batch_norm_momentum: float = 0.9,
        synchronized: bool = False,
        output_stride: int | None = None,
        multi_grid: Sequence[int] | None = None,
        drop_path_rate: float = 0.0,
        recompute: bool = False,
        features_only: bool = False,
        out_indices: Sequence[int] | None = None,
        dtype: Any = None,
    ) -> keras.Model: ...


class PlainConstructor(Protocol):
    """The constructor of a plain network: as `ResidualConstructor`, without the arguments that concern shortcuts."""

    def __call__(
        self,
        include_top: bool = True,
        weights: str | os.PathLike[str] | None = None,
        input_tensor: Any = None,
        input_shape: tuple[int | None, int | None, int] | None = None,
        pooling: str | None = None,
        classes: int = ...,
        classifier_activation: str | Callable[..., Any] | None = "softmax",
        name: str = ...,
        *,
        stride_in_1x1: bool | None = None,
        batch_norm_momentum: float = 0.9,
        synchronized: bool = False,
        output_stride: int | None = None,
        multi_grid: Sequence[int] | None = None,
        recompute: bool = False,
        features_only: bool = False,
        out_indices: Sequence[int] | None = None,
        dtype: Any = None,
    ) -> keras.Model: ...


Constructor = ResidualConstructor | PlainConstructor


def _constructor(name: str) -> Any:
    """Make the constructor of one network, with the signature of its protocol."""
    net = ARCHITECTURES[name]
    plain = net.shortcut is None
    defaults = {"classes": net.classes, "shortcut": net.shortcut, "name": net.name.lower()}
    protocol = PlainConstructor if plain else ResidualConstructor
    signature = inspect.signature(protocol.__call__, eval_str=True)
    signature = signature.replace(
        parameters=[
            parameter.replace(default=defaults.get(parameter.name, parameter.default))
            for parameter in list(signature.parameters.values())[1:]
        ]
    )

    def construct(*args: Any, **kwargs: Any) -> keras.Model:
        arguments.check_names(name, kwargs, signature.parameters)
        values = signature.bind(*args, **kwargs).arguments
        return ResNet(net.stages, block=net.block, stem=net.stem, **{**defaults, **values})

    kind = "plain network without shortcuts" if plain else "residual network"
    where = "Table 1" if net.stem == "imagenet" else "section 4.2"
    construct.__name__ = construct.__qualname__ = name
    construct.__signature__ = signature  # type: ignore[attr-defined]
    construct.__doc__ = (
        f"Build the {net.depth}-layer {kind} of {where}: "
        f"{net.parameters():,} parameters, {net.multiply_adds() / 1e9:.3f}e9 multiply-adds.\n\n"
        "The network is random unless `weights` is given; nothing is downloaded. The positional arguments are those\n"
        f"of keras.applications, in its order.\n\n{arguments.described(ResNet, signature.parameters)}"
    )
    return construct


ResNet18: ResidualConstructor = _constructor("ResNet18")
ResNet34: ResidualConstructor = _constructor("ResNet34")
ResNet50: ResidualConstructor = _constructor("ResNet50")
ResNet101: ResidualConstructor = _constructor("ResNet101")
ResNet152: ResidualConstructor = _constructor("ResNet152")
PlainNet18: PlainConstructor = _constructor("PlainNet18")
PlainNet34: PlainConstructor = _constructor("PlainNet34")
ResNet20: ResidualConstructor = _constructor("ResNet20")
ResNet32: ResidualConstructor = _constructor("ResNet32")
ResNet44: ResidualConstructor = _constructor("ResNet44")
ResNet56: ResidualConstructor = _constructor("ResNet56")
ResNet110: ResidualConstructor = _constructor("ResNet110")
ResNet1202: ResidualConstructor = _constructor("ResNet1202")
PlainNet20: PlainConstructor = _constructor("PlainNet20")
PlainNet32: PlainConstructor = _constructor("PlainNet32")
PlainNet44: PlainConstructor = _constructor("PlainNet44")
PlainNet56: PlainConstructor = _constructor("PlainNet56")
PlainNet110: PlainConstructor = _constructor("PlainNet110")


CONSTRUCTORS: dict[str, Constructor] = {name.lower(): globals()[name] for name in ARCHITECTURES}
"""Lower-case name, as in configurations -> constructor."""


def constructor(name: str) -> Constructor:
    """Return the constructor of a network by its name in any case, such as "resnet50".

    Raises:
        ValueError: there is no such network.
    """
    return CONSTRUCTORS[find(name).name.lower()]
