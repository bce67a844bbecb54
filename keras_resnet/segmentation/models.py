"""Segmentation networks on dilated residual networks: a label for every pixel of an image of any size.

    model = deeplabv3("resnet50", classes=21)
    pretrained.load_backbone(model, keras_resnet.ResNet50(weights="resnet50.weights.h5"))
    labels = model(images).numpy().argmax(-1)      # f32[B,H,W,3] -> f32[B,H,W,K] -> i64[B,H,W]

With `auxiliary=True` the model has a second classifier, on conv4_x, for training only. Its outputs are a dictionary,
"logits" and "auxiliary"; `inference_model` returns the model of the logits alone, which shares the layers:

    model = deeplabv3("resnet50", classes=21, auxiliary=True)
    model.compile("sgd", **losses.compile_options(auxiliary=True))
    model.fit(batches)                             # of images and {"logits": labels, "auxiliary": labels}
    inference_model(model).predict(images)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_resnet import compat
from keras_resnet.errors import InputError, check_choice, did_you_mean, integer
from keras_resnet.models import arguments, layers, resnet
from keras_resnet.models.architectures import Architecture
from keras_resnet.models.blocks import BlockOptions
from keras_resnet.models.features import FeatureInfo, feature_info
from keras_resnet.models.submodels import deep_recursion, submodel
from keras_resnet.segmentation import heads
from keras_resnet.segmentation.choices import BACKBONES, HEADS, OUTPUT_STRIDES

Backbone = str | Architecture | Callable[..., keras.Model]
"""Name of a network, such as "resnet50"; an architecture; or a constructor, such as `keras_resnet.ResNet50`."""


@arguments.hinted
def fcn(
    backbone: Backbone = "resnet50",
    classes: int = 21,
    *,
    output_stride: int = 8,
    auxiliary: bool = False,
    multi_grid: Sequence[int] | None = None,
    dropout: float = 0.1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    stride_in_1x1: bool | None = None,
    synchronized: bool = False,
    batch_norm_momentum: float = 0.9,
    dtype: Any = None,
    name: str = "fcn",
) -> keras.Model:
    """Build a fully convolutional network in torchvision's form (Long et al., 2015), with random weights.

    Args:
        backbone: name of an ImageNet network such as "resnet50" or "plainnet34", an `Architecture`, or a constructor
            such as `keras_resnet.ResNet50`, which is called with `include_top=False` and the options below.
        classes: number of classes K, including the background if there is one.
        output_stride: stride of the last feature map, 8, 16 or 32; below 32 dilation replaces the last strides.
        auxiliary: whether to add the auxiliary head on conv4_x; the model then returns a dictionary for training.
        multi_grid: factors of the dilations in the blocks of conv5_x, such as (1, 2, 4); by default all are 1.
        dropout: probability of dropping a feature before the classifier, in [0, 1).
        input_shape: (height, width, channels); height and width may be None.
        stride_in_1x1: where bottlenecks have their stride, which must be as in the weights to load: True, the default,
            for the paper's networks, False for torchvision's.
        synchronized: compute batch statistics over all replicas of a `tf.distribute` strategy.
        batch_norm_momentum: weight of the old value in the moving statistics, in [0, 1).
        dtype: dtype policy, e.g. "mixed_bfloat16"; by default Keras' global policy. With half precision, the classifier
            and the interpolation of logits compute in float32.
        name: name of the model.

    Returns:
        A functional `keras.Model`, f32[B,H,W,C] normalized -> logits f32[B,H,W,K] of the image's size, interpolated
        bilinearly. With `auxiliary`: {"logits": f32[B,H,W,K], "auxiliary": f32[B,H,W,K]}.

    Raises:
        ValueError: an argument is invalid.
    """
    net, levels, options = _backbone(
        backbone,
        classes,
        output_stride=output_stride,
        multi_grid=multi_grid,
        dropout=dropout,
        input_shape=input_shape,
        stride_in_1x1=stride_in_1x1,
        synchronized=synchronized,
        batch_norm_momentum=batch_norm_momentum,
        dtype=dtype,
    )
    x = heads.fully_convolutional(_output(net, levels[-1]), classes, dropout=dropout, name="head", options=options)
    return _model(net, levels, x, classes, auxiliary=auxiliary, options=options, name=name)


@arguments.hinted
def deeplabv3(
    backbone: Backbone = "resnet50",
    classes: int = 21,
    *,
    output_stride: int = 8,
    auxiliary: bool = False,
    multi_grid: Sequence[int] | None = None,
    dropout: float = 0.5,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    stride_in_1x1: bool | None = None,
    synchronized: bool = False,
    batch_norm_momentum: float = 0.9,
    dtype: Any = None,
    name: str = "deeplabv3",
) -> keras.Model:
    """Build DeepLabv3 in torchvision's form (Chen et al., "Rethinking Atrous Convolution", 2017), with random weights.

    The dilations of the pyramid pooling are 12, 24 and 36 at output stride 8, and 6, 12 and 18 at 16. The arguments,
    the result and the errors are those of `fcn`; `dropout` follows the pyramid pooling.
    """
    net, levels, options = _backbone(
        backbone,
        classes,
        output_stride=output_stride,
        multi_grid=multi_grid,
        dropout=dropout,
        input_shape=input_shape,
        stride_in_1x1=stride_in_1x1,
        synchronized=synchronized,
        batch_norm_momentum=batch_norm_momentum,
        dtype=dtype,
    )
    rates = heads.aspp_rates(output_stride)
    x = heads.deeplabv3(_output(net, levels[-1]), classes, rates, dropout=dropout, options=options)
    return _model(net, levels, x, classes, auxiliary=auxiliary, options=options, name=name)


@arguments.hinted
def deeplabv3_plus(
    backbone: Backbone = "resnet50",
    classes: int = 21,
    *,
    output_stride: int = 16,
    auxiliary: bool = False,
    multi_grid: Sequence[int] | None = None,
    dropout: float = 0.1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    stride_in_1x1: bool | None = None,
    synchronized: bool = False,
    batch_norm_momentum: float = 0.9,
    dtype: Any = None,
    name: str = "deeplabv3_plus",
) -> keras.Model:
    """Build DeepLabv3+, which refines DeepLabv3 by the maps of conv2_x (Chen et al., 2018), with random weights.

    The decoder concatenates the upsampled pyramid pooling with conv2_x, projected to 48 channels, and applies two 3x3
    convolutions. The arguments, the result and the errors are those of `fcn`; `dropout` follows the pyramid pooling.
    """
    net, levels, options = _backbone(
        backbone,
        classes,
        output_stride=output_stride,
        multi_grid=multi_grid,
        dropout=dropout,
        input_shape=input_shape,
        stride_in_1x1=stride_in_1x1,
        synchronized=synchronized,
        batch_norm_momentum=batch_norm_momentum,
        dtype=dtype,
    )
    rates = heads.aspp_rates(output_stride)
    maps, low_level = _output(net, levels[-1]), _output(net, levels[1])
    x = heads.deeplabv3_plus(maps, low_level, classes, rates, dropout=dropout, options=options)
    return _model(net, levels, x, classes, auxiliary=auxiliary, options=options, name=name)


BUILDERS: dict[str, Callable[..., keras.Model]] = {
    "fcn": fcn,
    "deeplabv3": deeplabv3,
    "deeplabv3_plus": deeplabv3_plus,
}
"""Head, one of `choices.HEADS` -> function that builds the network."""


def build(head: str, backbone: Backbone = "resnet50", classes: int = 21, **options: Any) -> keras.Model:
    """Build the network of a head, one of `choices.HEADS`.

    Args:
        head: "fcn", "deeplabv3" or "deeplabv3_plus".
        backbone: as for `fcn`.
        classes: as for `fcn`.
        **options: further arguments of `fcn`.

    Raises:
        ValueError: an argument is invalid.
    """
    check_choice("head", head, HEADS)
    return BUILDERS[head](backbone, classes, **options)


def inference_model(model: keras.Model) -> keras.Model:
    """Return the model of the logits alone, f32[B,H,W,C] -> f32[B,H,W,K]; it shares the layers of `model`.

    Args:
        model: a model of this module, with or without the auxiliary head.
    """
    if not isinstance(model.output, dict):
        return model
    return submodel(model, model.output["logits"], name=model.name)


def backbone_of(model: keras.Model) -> keras.Model:
    """Return the backbone of a model of this module, from the image to its last feature map; the layers are shared."""
    return submodel(model, _output(model, feature_info(model)[-1]), name=f"{model.name}_backbone")


def backbone_variables(model: keras.Model) -> list[Any]:
    """Return the trainable variables of the backbone, which usually learns at a tenth of the head's rate."""
    return backbone_of(model).trainable_variables


def _backbone(
    backbone: Backbone, classes: int, *, output_stride: int, dropout: float, dtype: Any, **options: Any
) -> tuple[keras.Model, tuple[FeatureInfo, ...], BlockOptions]:
    """Check the arguments of a model and build its backbone.

    Returns:
        The network without its top, its levels, and the options of the head's layers.
    """
    integer("classes", classes, minimum=1)
    check_choice("output_stride", output_stride, OUTPUT_STRIDES)
    if not 0 <= dropout < 1:
        raise InputError(f"dropout must be in [0, 1); got {dropout!r}.")
    dtype = compat.policy_of(dtype) if dtype is not None else compat.dtype_policy()
    net = _constructor(backbone)(include_top=False, output_stride=output_stride, dtype=dtype, **options)
    head_options = BlockOptions(
        batch_norm_momentum=options["batch_norm_momentum"], synchronized=options["synchronized"], dtype=dtype
    )
    return net, feature_info(net), head_options


def _constructor(backbone: Backbone) -> Callable[..., keras.Model]:
    """Return the constructor of a backbone.

    Raises:
        ValueError: there is no such network, or it is one for CIFAR.
    """
    if isinstance(backbone, str):
        if backbone.lower() not in BACKBONES:
            hint = did_you_mean(backbone, BACKBONES)
            raise InputError(f"backbone must be one of {', '.join(map(repr, BACKBONES))}; got {backbone!r}{hint}.")
        backbone = BACKBONES[backbone.lower()]
    if not isinstance(backbone, Architecture):
        return backbone
    net = backbone

    def construct(**options: Any) -> keras.Model:
        return resnet.ResNet(
            net.stages, block=net.block, stem=net.stem, shortcut=net.shortcut, name=net.name.lower(), **options
        )

    return construct


def _output(model: keras.Model, level: FeatureInfo) -> Any:
    return model.get_layer(level.layer).output


def _model(
    net: keras.Model,
    levels: Sequence[FeatureInfo],
    logits: Any,
    classes: int,
    *,
    auxiliary: bool,
    options: BlockOptions,
    name: str,
) -> keras.Model:
    """Return the model from the image to the logits of its size, with the auxiliary head's if `auxiliary` is set."""
    image = net.input
    dtype = heads.logits_dtype(options)
    outputs: Any = layers.ResizeLike(name="logits", dtype=dtype)([logits, image])
    if auxiliary:
        x = heads.fully_convolutional(_output(net, levels[-2]), classes, dropout=0.1, name="auxiliary", options=options)
        outputs = {"logits": outputs, "auxiliary": layers.ResizeLike(name="auxiliary", dtype=dtype)([x, image])}
    with deep_recursion(2 * len(net.layers)):
        return keras.Model(image, outputs, name=name)
