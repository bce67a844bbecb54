"""A network as a function from images to scores, on one or several devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.distribute import collectives


def function(model: keras.Model, strategy: tf.distribute.Strategy | None = None) -> Callable:
    """Return a function from images to scores.

    With a strategy, each replica computes an equal part of the batch. A batch that does not divide is padded with
    copies of its last image, whose scores are dropped, so that count and errors are those of one device. With several
    workers, each computes its own images on its own replicas.

    Args:
        model: f32[B,H,W,3] -> f32[B,...,K]; its variables must be created in the strategy's scope.
        strategy: strategy whose replicas compute; by default one device.

    Returns:
        f32[B,H,W,3] -> array f32[B,...,K].
    """
    spec = tf.TensorSpec([None, *[None] * (len(model.input_shape) - 2), model.input_shape[-1]])

    def forward(images: tf.Tensor) -> tf.Tensor:
        return model(images, training=False)

    if strategy is None or strategy.num_replicas_in_sync == 1:
        compiled = tf.function(forward, input_signature=[spec])
        return lambda images: compiled(images).numpy()

    @tf.function(reduce_retracing=True)
    def on_replicas(parts: Any) -> Any:
        return strategy.run(forward, args=(parts,))

    def shared(images: tf.Tensor) -> np.ndarray:
        count, replicas = len(images), collectives.local_replicas(strategy)
        part = -(-count // replicas)
        padded = tf.gather(images, tf.minimum(tf.range(part * replicas), count - 1))

        def part_of(context: tf.distribute.ReplicaContext) -> tf.Tensor:
            start = context.replica_id_in_sync_group % replicas * part
            return padded[start : start + part]

        parts = strategy.experimental_distribute_values_from_function(part_of)
        return np.concatenate(strategy.experimental_local_results(on_replicas(parts)))[:count]

    return shared
