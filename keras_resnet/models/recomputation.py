"""Training that keeps few of a network's maps, and computes what is between them again for the gradient.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (2016): of n blocks in groups, the inputs of the groups and
the inside of one group are kept, in all about as many maps as the root of n, and each block is computed twice.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Sequence

import keras

BLOCK = re.compile(r"conv\d+_block\d+(?=_)")
"""The part of a layer's name that says which block it belongs to."""


def group_size(blocks: int) -> int:
    """How many blocks to put in a group.

    The inside of a block and its gradients take about eight times its input, so that groups of k keep n / k + 8 k maps.
    """
    return max(1, round(math.sqrt(blocks / 8)))


def run(layers: Sequence[keras.layers.Layer], inputs, x):
    """Call the layers of a part of a functional network for training, in their order in the network.

    Args:
        layers: the part; it has one input and one output, that of its last layer.
        inputs: the Keras tensor that the part starts from.
        x: what to compute it with.
    """
    known = {id(inputs): x}
    for layer in layers:
        arguments = keras.tree.map_structure(lambda tensor: known[id(tensor)], layer.input)
        training = {"training": True} if isinstance(layer, keras.layers.BatchNormalization) else {}
        x = known[id(layer.output)] = layer(arguments, **training)
    return x


class RecomputedBlocks(keras.layers.Layer):
    """Blocks of a network in training, f32[B,H,W,C] -> f32[B,h,w,F], of which only the input is kept.

    The variables go in as values and the new moving statistics come out as values, so that the second computation
    changes nothing: the statistics are updated once, and under JAX it is a pure function.

    Args:
        layers: those of the blocks, in their order in the network.
    """

    def __init__(self, layers):
        # Not the network's policy: under half precision, the values of the variables would be rounded.
        super().__init__(dtype="float32", autocast=False)
        self.parts = layers
        self.start = layers[0].input
        self.built = True

    def call(self, x):
        variables = self.variables
        moving = [v for layer in self.parts if layer.trainable for v in layer.non_trainable_variables]

        def compute(x, *values):
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
    """A network of this package as a functional model, with the same layers and variables, that trains in less memory.

    In inference, and where its layers are used in another model, it is as any other.
    """

    def __init__(self, inputs, outputs, name=None, **kwargs):
        super().__init__(inputs, outputs, name=name, **kwargs)

    @functools.cached_property
    def _parts(self) -> tuple[keras.Model, list[RecomputedBlocks], list[keras.layers.Layer]]:
        """What is before the blocks, groups of blocks, and the layers behind them.

        Kept out of the attributes that Keras tracks: the layers belong to the model already.
        """
        blocks = {}
        for layer in self.layers:
            if match := BLOCK.match(layer.name):
                blocks.setdefault(match.group(), []).append(layer)
        blocks = list(blocks.values())
        size = group_size(len(blocks))
        groups = [
            list(itertools.chain.from_iterable(blocks[first : first + size])) for first in range(0, len(blocks), size)
        ]
        front = keras.Model(self.inputs, groups[0][0].input)
        last = self.layers.index(groups[-1][-1])
        return front, [RecomputedBlocks(layers) for layers in groups], self.layers[last + 1 :]

    def call(self, inputs, training=None, mask=None):
        if not training:
            return super().call(inputs, training=training, mask=mask)
        front, groups, head = self._parts
        x = front(inputs, training=True)
        for group in groups:
            x = group(x)
        return run(head, groups[-1].parts[-1].output, x)
