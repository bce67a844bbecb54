"""Weights for segmentation networks: of classifiers for the backbone, and torchvision's for the whole network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import keras

from keras_resnet import files
from keras_resnet.errors import InputError
from keras_resnet.models.weights import check_file, namings, readers
from keras_resnet.models.weights.spec import PARTS, ArchitectureSpec, named_variables
from keras_resnet.segmentation import models

FCN_NAMES = {"head_conv": "classifier.0", "head_bn": "classifier.1", "head_logits": "classifier.4"}
"""Layer -> its name in torchvision's FCN."""

DEEPLABV3_NAMES = {
    **{
        f"aspp{number}_{kind}": f"classifier.0.convs.{number - 1}.{index}"
        for number in range(1, 5)
        for index, kind in enumerate(("conv", "bn"))
    },
    "aspp_pool_conv": "classifier.0.convs.4.1",
    "aspp_pool_bn": "classifier.0.convs.4.2",
    "aspp_project_conv": "classifier.0.project.0",
    "aspp_project_bn": "classifier.0.project.1",
    "head_conv": "classifier.1",
    "head_bn": "classifier.2",
    "head_logits": "classifier.4",
}
"""Layer -> its name in torchvision's DeepLabv3."""

AUXILIARY_NAMES = {
    "auxiliary_conv": "aux_classifier.0",
    "auxiliary_bn": "aux_classifier.1",
    "auxiliary_logits": "aux_classifier.4",
}
"""Layer -> its name in torchvision's auxiliary head."""


def load_backbone(model: keras.Model, classifier: keras.Model) -> None:
    """Copy the weights of a classification network into the backbone of a segmentation network.

    Args:
        model: a model of `segmentation.models`.
        classifier: the network of the backbone, with any head; `keras_resnet.load_weights` loads files of all formats
            into it.

    Raises:
        ValueError: `classifier` is another network, or has the stride of its bottlenecks elsewhere.
    """
    ours = _backbone_variables(model)
    theirs = {
        name: variable for name, variable in (named_variables(classifier) or {}).items() if name.startswith("conv")
    }
    spec, other = ArchitectureSpec.of_model(models.backbone_of(model)), ArchitectureSpec.of_model(classifier)
    reason: str | None = "it is not a network of this package"
    if spec and other:
        reason = other.difference(spec) or _difference(ours, theirs)
    if reason:
        raise InputError(f"classifier must be the backbone's own network; {classifier.name!r} is not: {reason}.")
    for name, variable in ours.items():
        variable.assign(theirs[name].numpy())


def load_torchvision(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Load a checkpoint of torchvision's `fcn_resnet50`, `fcn_resnet101`, `deeplabv3_resnet50` or `_resnet101`.

    Args:
        model: a model of `fcn` or `deeplabv3` with `stride_in_1x1=False` and the checkpoint's classes. Without the
            auxiliary head, that of the file is ignored. If the file does not fit, the model is not changed.
        path: a `.pth` or `.safetensors` file.

    Raises:
        ValueError: the file is missing, damaged, or of another network.
    """
    check_file(path)
    files.verify(path)
    try:
        variables, names = _torchvision_names(model)
        with readers.opened(path) as content:
            content.check(name for name in names.values() if name in content.tensors)
            values = {
                ours: namings.to_ours(ours, content.read(theirs), namings.TORCHVISION)
                for ours, theirs in names.items()
                if theirs in content.tensors
            }
            known = {*names.values(), *(name for name in content.tensors if name.startswith("aux_classifier."))}
            further = [name for name in content.tensors if name not in known and "num_batches_tracked" not in name]
        reason = f"only the file has {further[0]}" if further else _difference(variables, values)
        if reason:
            raise InputError(reason)
    except InputError as error:
        raise InputError(f"weights file {str(path)!r} does not fit {model.name}: {str(error).rstrip('.')}.") from error
    for name, value in values.items():
        variables[name].assign(value)


def _torchvision_names(model: keras.Model) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the variables of a model by "{layer}/{variable}", and the name of each in torchvision."""
    spec = ArchitectureSpec.of_model(models.backbone_of(model))
    if spec and spec.stride_in_1x1:
        raise InputError("torchvision's networks require stride_in_1x1=False")
    variables = _backbone_variables(model)
    names = {name: f"backbone.{namings.TORCHVISION.tensor(name)}" for name in variables}
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    heads = (DEEPLABV3_NAMES if "aspp1_conv" in layers else FCN_NAMES) | AUXILIARY_NAMES
    for name in layers.keys() - {variable.split("/")[0] for variable in variables}:
        if name not in heads:
            raise InputError(f"torchvision has no layer for {name!r}")
        parts = PARTS["bn"] if name.endswith("_bn") else PARTS["predictions"]
        for part, variable in zip(parts, layers[name].weights, strict=False):
            variables[f"{name}/{part}"] = variable
            names[f"{name}/{part}"] = f"{heads[name]}.{namings.TORCH[part]}"
    return variables, names


def _backbone_variables(model: keras.Model) -> dict[str, Any]:
    variables = named_variables(models.backbone_of(model))
    if variables is None:
        raise InputError(f"model must be one of keras_resnet.segmentation.models; got {model.name!r}.")
    return variables


def _difference(variables: Mapping[str, Any], values: Mapping[str, Any]) -> str | None:
    """Describe the first variable that a file or another network lacks, or has in another shape; None without any."""
    for name in sorted({*variables} ^ {*values}):
        return f"it has no {name}" if name in variables else f"only it has {name}"
    for name, variable in variables.items():
        if tuple(variable.shape) != tuple(values[name].shape):
            return f"{name} has shape {list(values[name].shape)} there, {list(variable.shape)} in the network"
    return None
