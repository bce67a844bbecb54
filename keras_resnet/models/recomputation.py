"""Training in less memory: keep few feature maps and recompute those between them for the gradient.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (2016): n blocks are split into groups. Only the inputs of
the groups and the inside of one group are in memory, about sqrt(n) feature maps; each block is computed twice.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import keras

from keras_resnet.models.layers import PointwiseConv2D, ReLU

BLOCK = re.compile(r"conv\d+_block\d+(?=_)")
"""The part of a layer's name that identifies its block."""

DIFFERENT_IN_TRAINING = (keras.layers.BatchNormalization, PointwiseConv2D, ReLU)
"""Layers of the blocks that have the argument `training`."""


def group_size(blocks: int) -> int:
    """Return the number of blocks per group for a network of `blocks` blocks.

    The inside of a block and its gradients take about eight times the memory of its input, so groups of k blocks keep
    n / k + 8 k feature maps, which is minimal for k = sqrt(n / 8).
    """
    return max(1, round(math.sqrt(blocks / 8)))


def run(layers: Sequence[keras.layers.Layer], inputs: Any, x: Any) -> Any:
    """Call consecutive layers of a functional network in training mode.

    Args:
        layers: layers in their order in the network, with one input; their output is that of the last layer.
        inputs: Keras tensor of the network that is the input of `layers`.
        x: value of `inputs`.

    Returns:
        The output of the last layer.
    """
    known = {id(inputs): x}
    for layer in layers:
        arguments = keras.tree.map_structure(lambda tensor: known[id(tensor)], layer.input)
        training = {"training": True} if isinstance(layer, DIFFERENT_IN_TRAINING) else {}
        x = known[id(layer.output)] = layer(arguments, **training)
    return x


class RecomputedBlocks(keras.layers.Layer):
    """Blocks of a network in training, f32[B,H,W,C] -> f32[B,h,w,F], of which only the input is kept in memory.

    The computation is a pure function that takes the values of the variables and returns the new moving statistics. So
    the statistics are updated only once, although the blocks are computed twice.

    Args:
        layers: the layers of the blocks, in their order in the network.
    """

    def __init__(self, layers: Sequence[keras.layers.Layer]):
        # Under the network's half-precision policy, the values of the variables would be rounded.
        super().__init__(dtype="float32", autocast=False)
        self.parts = layers
        self.start = layers[0].input
        self.built = True

    def call(self, x: Any) -> Any:
        variables = self.variables
        moving = [v for layer in self.parts if layer.trainable for v in layer.non_trainable_variables]

        def compute(x: Any, *values: Any) -> tuple[Any, ...]:
            with keras.StatelessScope(zip(variables, values, strict=True)) as scope:
                x = run(self.parts, self.start, x)
            return x, *(keras.ops.stop_gradient(scope.get_current_value(variable)) for variable in moving)

        values = [keras.ops.copy(variable) for variable in variables]
        x, *statistics = keras.remat(compute)(x, *values)
        for variable, value in zip(moving, statistics, strict=True):
            variable.assign(value)
        return x


@keras.saving.register_keras_serializable(package="keras_resnet")
class RecomputingModel(keras.Model):
    """A network of this package that recomputes its blocks in training, with the same layers and variables.

    Inference, and other models that use its layers, are not affected.
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any):
        super().__init__(inputs, outputs, name=name, **kwargs)

    @functools.cached_property
    def _parts(self) -> tuple[keras.Model, list[RecomputedBlocks], list[keras.layers.Layer]]:
        """Return the model before the blocks, the groups of blocks, and the layers after them.

        A cached property, since Keras would track an attribute, and the layers already belong to the model.
        """
        by_name: dict[str, list[keras.layers.Layer]] = {}
        for layer in self.layers:
            if match := BLOCK.match(layer.name):
                by_name.setdefault(match.group(), []).append(layer)
        blocks = list(by_name.values())
        size = group_size(len(blocks))
        groups = [
            list(itertools.chain.from_iterable(blocks[first : first + size])) for first in range(0, len(blocks), size)
        ]
        front = keras.Model(self.inputs, groups[0][0].input)
        last = self.layers.index(groups[-1][-1])
        return front, [RecomputedBlocks(layers) for layers in groups], self.layers[last + 1 :]

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not training:
            return super().call(inputs, training=training, mask=mask)
        front, groups, head = self._parts
        x = front(inputs, training=True)
        for group in groups:
            x = group(x)
        return run(head, groups[-1].parts[-1].output, x)
