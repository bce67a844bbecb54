"""The one builder of all networks, and a constructor for each network of the paper.

    model = keras_resnet.ResNet50(classes=10)
    model = keras_resnet.ResNet([(16, 1, 1)], block="basic", stem="cifar", input_shape=(8, 8, 3), classes=2)

Arguments and layer names follow keras.applications; stage outputs are layers `conv2_block{n}_out` and so on.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence

import keras

from keras_resnet import compat
from keras_resnet.errors import InputError, check_choice
from keras_resnet.models import blocks, layers
from keras_resnet.models import weights as weight_files
from keras_resnet.models.architectures import ARCHITECTURES, EXPANSION, STEMS, Architecture, Stage
from keras_resnet.models.recomputation import RecomputingModel
from keras_resnet.models.weights import published

MINIMUM_SIZE = {"imagenet": 32, "cifar": 8}
"""Smallest height and width in pixels; 32 as in keras.applications, 8 so that the last CIFAR stage has 2x2 maps."""


RESIDUAL_ONLY = ("shortcut", "zero_channels", "zero_init_residual", "drop_path_rate")
"""Arguments that the constructors of plain networks do not have."""


def ResNet(
    stages: Sequence[tuple[int, int, int]],
    *,
    block: str = "bottleneck",
    stem: str = "imagenet",
    include_top: bool = True,
    weights: str | None = None,
    input_tensor=None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    name: str = "resnet",
    shortcut: str | None = "B",
    stride_in_1x1: bool | None = None,
    zero_init_residual: bool = False,
    zero_channels: str = "halves",
    batch_norm_momentum: float = 0.9,
    synchronized: bool = False,
    output_stride: int | None = None,
    drop_path_rate: float = 0.0,
    recompute: bool = False,
    dtype=None,
) -> keras.Model:
    """Build a residual or plain network from a list of stages (Table 1 and section 4.2).

    Args:
        stages: (filters, blocks, stride) of conv2_x and on, e.g. `[(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]`.
        block: "basic" (two 3x3) or "bottleneck" (1x1, 3x3, 1x1 with four times the filters).
        stem: "imagenet" (7x7 stride 2, 3x3 max pool stride 2) or "cifar" (3x3).
        include_top: whether to end with global average pooling and the classifier.
        weights: None for random initialisation, a name of published weights such as "imagenet" (see `model_info`), or
            the path of a weights file: this package's, keras.applications' or PyTorch's. The classifier stays new
            where the weights have other classes, and the first convolution is adapted to other input channels.
        input_tensor: Keras tensor to build on instead of a new input.
        input_shape: (height, width, channels); height and width may be None. By default (224, 224, 3) for the ImageNet
            stem and (32, 32, 3) for CIFAR's; without top, (None, None, 3).
        pooling: without top: None for the last stage's maps, "avg" or "max" for global pooling.
        classes: outputs of the classifier.
        classifier_activation: activation of the classifier; None for logits.
        name: name of the model.
        shortcut: "A" (parameter-free), "B" (projections where dimensions change), "C" (projections everywhere),
            None for a plain net (section 3.3).
        stride_in_1x1: stride of bottlenecks in the first 1x1 (the paper, "v1") or in the 3x3 ("v1.5", torchvision); by
            default as published weights need it, and otherwise the paper's.
        zero_init_residual: start the last batch norm of each residual function at gamma 0 (Goyal et al., 2017).
        zero_channels: where option A puts its zero channels: "halves" (before and after) or "after".
        batch_norm_momentum: share of the old value in the moving statistics, in [0, 1); the paper does not state it,
            0.9 is what fb.resnet.torch uses.
        synchronized: batch statistics over all replicas of a `tf.distribute` strategy.
        output_stride: total stride of the last stage's maps; by default that of the stages (32 for ImageNet nets).
            Smaller values replace the last strides by dilation, computing the same features more densely.
        drop_path_rate: how often the last block's residual function is skipped in training, in [0, 1); those before it
            less, in a line from 0 (Huang et al., "Deep Networks with Stochastic Depth", 2016).
        recompute: keep only the inputs of the blocks in training and compute the rest again for the gradient: the same
            updates in less memory and a third more time.
        dtype: dtype policy, e.g. "mixed_bfloat16"; by default Keras' global one. Under half precision the pooling and
            the classifier compute in float32.

    Returns:
        A functional `keras.Model`, f32[B,H,W,C] -> f32[B,classes] (probabilities by default), or without top
        f32[B,h,w,F] or, pooled, f32[B,F].

    Raises:
        ValueError: an argument is not one of the allowed ones, or the weights file does not fit the network.
    """
    if compat.image_data_format() != "channels_last":
        raise InputError("keras_resnet builds channels_last models; set that as Keras' image data format first.")
    stages = _check_stages(stages)
    check_choice("block", block, EXPANSION)
    check_choice("stem", stem, STEMS)
    check_choice("shortcut", shortcut, ("A", "B", "C", None))
    check_choice("zero_channels", zero_channels, ("halves", "after"))
    check_choice("pooling", pooling, (None, "avg", "max"))
    if include_top and (isinstance(classes, bool) or not isinstance(classes, int) or classes < 1):
        raise InputError(f"classes must be an integer of at least 1; got {classes!r}.")
    if not 0 <= batch_norm_momentum < 1:
        raise InputError(f"batch_norm_momentum must be in [0, 1); got {batch_norm_momentum!r}.")
    if not 0 <= drop_path_rate < 1 or (drop_path_rate and shortcut is None):
        raise InputError(f"drop_path_rate must be in [0, 1), and 0 for a plain net; got {drop_path_rate!r}.")
    if recompute and drop_path_rate:
        raise InputError("recompute excludes drop_path_rate: computed again, other blocks would be skipped.")
    if recompute and not hasattr(keras, "remat"):
        raise InputError(f"recompute needs keras.remat of Keras 3; this is Keras {keras.__version__}.")
    dilations = _dilations(stages, STEMS[stem].total_stride, output_stride)
    weight_files.check(weights)
    if published.is_name(weights):
        info = published.model_info(_published_name(stem, block, stages, shortcut), weights)
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
            drop_rates=list(itertools.islice(drop_rates, count)),
        )
        previous = dilation
    x = _head(x, include_top, pooling, classes, classifier_activation, dtype)

    sources = keras.utils.get_source_inputs(inputs)
    source = sources[0] if len(sources) == 1 else sources
    with recursion_limit(30 * sum(stage.blocks for stage in stages)):
        model = (RecomputingModel if recompute else keras.Model)(source, x, name=name)
    if weights is not None:
        weight_files.load(model, weights, adapt=True)
    return model


@contextlib.contextmanager
def recursion_limit(frames: int) -> Iterator[None]:
    """Allow `frames` more Python frames: Keras walks a model's graph by recursion, 1202 layers deep and more."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + frames)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _published_name(stem: str, block: str, stages: tuple[Stage, ...], shortcut: str | None) -> str:
    """The network of the paper that has these stages, for which there may be published weights."""
    for net in ARCHITECTURES.values():
        if (net.stem, net.block, net.stages) == (stem, block, stages) and None not in (net.shortcut, shortcut):
            return net.name.lower()
    raise InputError("weights by name exist for the paper's residual networks only; give the path of a file.")


def _check_stages(stages) -> tuple[Stage, ...]:
    try:
        stages = tuple(Stage(*stage) for stage in stages)
    except TypeError:
        raise InputError(f"stages must be a list of (filters, blocks, stride); got {stages!r}.") from None
    if not stages or any(not isinstance(n, int) or n < 1 for stage in stages for n in stage):
        raise InputError(f"stages must be a list of (filters, blocks, stride), all at least 1; got {stages!r}.")
    return stages


def _dilations(stages: Sequence[Stage], stem_stride: int, output_stride: int | None) -> list[int]:
    """The dilation of each stage such that the last one's maps have `output_stride`."""
    own = stem_stride * math.prod(stage.stride for stage in stages)
    possible = [own]
    for stage in reversed(stages):
        if stage.stride > 1:
            possible.append(possible[-1] // stage.stride)
    check_choice("output_stride", output_stride, (None, *possible))
    dilations, stride, dilation = [], stem_stride, 1
    for stage in stages:
        if stride * stage.stride > (output_stride or own):
            dilation *= stage.stride
        else:
            stride *= stage.stride
        dilations.append(dilation)
    return dilations


def _image_input(stem: str, input_tensor, input_shape, include_top: bool):
    """The tensor that the network starts from, checked."""
    if input_tensor is not None:
        if compat.is_keras_tensor(input_tensor):
            shape = tuple(input_tensor.shape[1:])
            if input_shape is not None and tuple(input_shape) != shape:
                raise InputError(f"input_shape must be that of input_tensor, {shape}, or None; got {input_shape!r}.")
            input_shape = shape
        else:
            kind = type(input_tensor).__name__
            raise InputError(f"input_tensor must be a Keras tensor, such as keras.Input(...); got a {kind}.")
    elif input_shape is None:
        side = {"imagenet": 224, "cifar": 32}[stem] if include_top else None
        input_shape = (side, side, 3)
    minimum = MINIMUM_SIZE[stem]
    allowed = f"(height, width, channels) with sides of at least {minimum} pixels or None and at least 1 channel"
    try:
        height, width, channels = input_shape
        valid = all(side is None or side >= minimum for side in (height, width)) and channels >= 1
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise InputError(f"input_shape must be {allowed}; got {input_shape!r}.")
    # The name is that of the input in `model.export`; the one that Keras makes up counts the models built so far.
    return keras.Input(tuple(input_shape), name="inputs") if input_tensor is None else input_tensor


def _stem(x, stem, options: blocks.BlockOptions):
    """Convolution 1 and, for ImageNet, the max pool that the paper counts to conv2_x."""
    x = blocks.conv_bn(x, stem.filters, stem.kernel, name="conv1", options=options, stride=stem.stride)
    x = blocks.relu(x, name="conv1_relu", options=options)
    if stem.pool:
        # Zeros are as good as minus infinity here: the maps are not negative.
        x = keras.layers.ZeroPadding2D(1, name="pool1_pad", dtype=options.dtype)(x)
        x = keras.layers.MaxPooling2D(3, strides=2, name="pool1_pool", dtype=options.dtype)(x)
    return x


def _head(x, include_top: bool, pooling: str | None, classes: int, activation, dtype):
    """Global pooling and classifier, in float32 where the network computes in half precision."""
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


def _constructor(architecture: Architecture) -> Callable[..., keras.Model]:
    """Make the constructor of one network: keras.applications' arguments in their order, then ours by keyword."""
    fixed = {"block": architecture.block, "stem": architecture.stem}
    defaults = {
        "classes": architecture.classes,
        "shortcut": architecture.shortcut,
        "name": architecture.name.lower(),
    }
    keras_applications = list(inspect.signature(keras.applications.ResNet50).parameters)
    parameters = []
    for parameter in inspect.signature(ResNet).parameters.values():
        plain = architecture.shortcut is None and parameter.name in RESIDUAL_ONLY
        if parameter.name == "stages" or parameter.name in fixed or plain:
            continue
        kind = parameter.POSITIONAL_OR_KEYWORD if parameter.name in keras_applications else parameter.KEYWORD_ONLY
        default = defaults.get(parameter.name, parameter.default)
        parameters.append(parameter.replace(kind=kind, default=default))
    signature = inspect.Signature(parameters, return_annotation=keras.Model)

    @functools.wraps(ResNet, assigned=())
    def construct(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        return ResNet(architecture.stages, **fixed, **{**defaults, **bound.arguments})

    where = "Table 1" if architecture.stem == "imagenet" else "section 4.2"
    kind = "plain network without shortcuts" if architecture.shortcut is None else "residual network"
    construct.__name__ = construct.__qualname__ = architecture.name
    construct.__module__ = __name__
    construct.__signature__ = signature
    construct.__doc__ = (
        f"Build the {architecture.depth}-layer {kind} of {where}: "
        f"{architecture.parameters():,} parameters, {architecture.multiply_adds() / 1e9:.3f}e9 multiply-adds.\n\n"
        "The first arguments are those of keras.applications, in its order; see `ResNet` for all of them."
    )
    return construct


globals().update({name: _constructor(architecture) for name, architecture in ARCHITECTURES.items()})

CONSTRUCTORS = {name.lower(): globals()[name] for name in ARCHITECTURES}
"""Name in lower case, as in configurations -> constructor."""


def constructor(name: str) -> Callable[..., keras.Model]:
    """Return the constructor of a network by its name in lower case, such as "resnet50".

    Raises:
        ValueError: there is no such network.
    """
    check_choice("model", name, CONSTRUCTORS)
    return CONSTRUCTORS[name]


__all__ = ["ResNet", *ARCHITECTURES]
