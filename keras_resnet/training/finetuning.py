"""Fine-tuning: parts of a network that stay fixed or learn slowly."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

import keras

from keras_resnet.models import weights

HEAD = "predictions"
"""Name of the classifier's layer in every network of this package."""


def initialize(model: keras.Model, path: str | os.PathLike, new_head: bool = True) -> None:
    """Start from the weights of a file.

    Args:
        model: a network of this package, with fresh weights.
        path: a weights file of the same network, in any format that `weights.load` reads.
        new_head: whether the classifier keeps its fresh weights; the file may then be of other classes.

    Raises:
        ValueError: the file is missing, damaged or of another network.
    """
    head = model.get_layer(HEAD)
    fresh = head.get_weights()
    weights.load(model, path, adapt=new_head)
    if new_head:
        head.set_weights(fresh)


def freeze(model: keras.Model, stages: int = 0, norm: bool = False) -> None:
    """Keep parts of a network fixed; fixed batch norm uses its moving statistics and leaves them as they are.

    To be called before `model.compile`, as Keras wants it.

    Args:
        model: a network of this package.
        stages: how many parts from the image on: 1 for conv1, 2 with conv2_x, ..., 5 for everything but the head.
        norm: whether all of batch norm is fixed, in the parts that learn too.
    """
    for layer in model.layers:
        part = re.match(r"conv(\d+)_", layer.name)
        fixed = bool(part) and int(part.group(1)) <= stages
        if fixed or (norm and isinstance(layer, keras.layers.BatchNormalization)):
            layer.trainable = False


def backbone(model: keras.Model) -> list:
    """The variables that learn of all layers but the classifier."""
    return [variable for variable in model.trainable_variables if HEAD not in variable.path]


def slow_down(optimizer: keras.optimizers.Optimizer, variables: Iterable, factor: float) -> None:
    """Multiply the learning rate of some variables; decoupled weight decay keeps the whole rate.

    Args:
        optimizer: any, not yet used.
        variables: those that learn more slowly.
        factor: what their rate is multiplied by.
    """
    # TensorFlow hands its own variables to `update_step`; the key is what Keras knows both kinds by.
    slow = {optimizer._var_key(variable) for variable in variables}
    whole = optimizer.update_step

    def update_step(gradient, variable, learning_rate):
        return whole(gradient, variable, learning_rate * (factor if optimizer._var_key(variable) in slow else 1.0))

    optimizer.update_step = update_step
