"""MultiWorkerMirroredStrategy with the `fit`, `evaluate` and `predict` of Keras 3, which by itself does not run there.

Keras issue 20585 has two causes in `keras/src/backend/tensorflow/trainer.py`, and both are calls of
`strategy.reduce`:

* to see the shape of a batch, `_maybe_symbolic_build` asks for the mean of a whole batch, a tuple, where
  `tf.distribute` reduces one value at a time;
* to average the logs, `reduce_per_replica` asks for the mean over `axis=0` of numbers that have no axis.

The strategy here answers these two calls as they are meant, and every other one as its parent does. Nothing in Keras is
changed, and no other strategy is touched.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from keras_resnet.errors import InputError

TESTED = ("3.15.1",)
"""The versions of Keras that this was tested with; `tests/training/test_workers.py` fails once it is not needed."""


def strategy(resolver) -> tf.distribute.MultiWorkerMirroredStrategy:
    """Make the strategy of the workers that a cluster resolver names; Keras 2 runs under TensorFlow's own.

    Raises:
        ValueError: as for `MultiWorkerStrategy`.
    """
    return (
        MultiWorkerStrategy(resolver) if hasattr(keras, "ops") else tf.distribute.MultiWorkerMirroredStrategy(resolver)
    )


class MultiWorkerStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """`tf.distribute.MultiWorkerMirroredStrategy` for models of Keras 3.

    Args:
        cluster_resolver: the workers.
        communication_options: as for the parent.

    Raises:
        ValueError: the version of Keras is not one of `TESTED`.
    """

    def __init__(self, cluster_resolver=None, communication_options=None):
        if keras.__version__ not in TESTED:
            raise InputError(
                f"keras must be {' or '.join(TESTED)} for several workers, as Keras 3 does not support them by itself "
                f"and the correction was tested with no other; got {keras.__version__}."
            )
        super().__init__(cluster_resolver, communication_options)

    def reduce(self, reduce_op, value, axis):
        if isinstance(value, (tuple, list, dict)):
            # Only the shapes are looked at: those of this worker's first replica, without a message to the others.
            return tf.nest.map_structure(lambda part: self.experimental_local_results(part)[0], value)
        (first, *_) = self.experimental_local_results(value)
        return super().reduce(reduce_op, value, None if axis == 0 and not first.shape.rank else axis)
