"""A MultiWorkerMirroredStrategy under which `fit`, `evaluate` and `predict` of Keras 3 run.

Under TensorFlow's own strategy they fail (Keras issue 20585) for two reasons in
`keras/src/backend/tensorflow/trainer.py`, both of them calls of `strategy.reduce`:

* to find the shape of a batch, `_maybe_symbolic_build` requests the mean of a whole batch, a tuple, but `tf.distribute`
  reduces one value at a time;
* to average the logs, `reduce_per_replica` requests the mean over `axis=0` of scalars.

The strategy here gives these two calls the intended results and passes all others to its parent. Keras itself and other
strategies are not changed.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_resnet.errors import InputError

TESTED = ("3.15.1",)
"""Versions of Keras that this was tested with; `tests/distribute/test_collectives.py` fails once it is obsolete."""


def strategy(resolver: tf.distribute.cluster_resolver.ClusterResolver) -> tf.distribute.MultiWorkerMirroredStrategy:
    """Make the strategy of the workers of a cluster resolver; Keras 2 runs under TensorFlow's own.

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

    def __init__(self, cluster_resolver: Any = None, communication_options: Any = None):
        if keras.__version__ not in TESTED:
            raise InputError(
                f"keras must be {' or '.join(TESTED)} for several workers, because this package works around a bug of "
                f"Keras 3 and tested no other version; got {keras.__version__}."
            )
        super().__init__(cluster_resolver, communication_options)

    def reduce(self, reduce_op: Any, value: Any, axis: int | None) -> Any:
        if isinstance(value, (tuple, list, dict)):
            # Keras reads only the shapes: those of this worker's first replica, without communication.
            return tf.nest.map_structure(lambda part: self.experimental_local_results(part)[0], value)
        (first, *_) = self.experimental_local_results(value)
        return super().reduce(reduce_op, value, None if axis == 0 and not first.shape.rank else axis)
