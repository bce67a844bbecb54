"""A network as a plain function from images to scores, on one device or shared by several."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.distribute import collectives


def function(model: keras.Model, strategy: tf.distribute.Strategy | None = None) -> Callable:
    """Make a function from images to scores.

    With a strategy each replica computes an equal part of the batch, filled up with copies of its last image where it
    does not divide; the copies' scores are dropped, so that count and errors are those of one device. Each of
    several workers computes what it is given, on its own replicas.

    Args:
        model: f32[B,H,W,3] -> f32[B,...,K]; its variables must be made in the strategy's scope.
        strategy: whose replicas compute; by default one device.

    Returns:
        f32[B,H,W,3] -> f32[B,...,K] arrays.
    """
    spec = tf.TensorSpec([None, *[None] * (len(model.input_shape) - 2), model.input_shape[-1]])

    def forward(images):
        return model(images, training=False)

    if strategy is None or strategy.num_replicas_in_sync == 1:
        compiled = tf.function(forward, input_signature=[spec])
        return lambda images: compiled(images).numpy()

    @tf.function(reduce_retracing=True)
    def on_replicas(parts):
        return strategy.run(forward, args=(parts,))

    def shared(images):
        count, replicas = len(images), collectives.local_replicas(strategy)
        part = -(-count // replicas)
        filled = tf.gather(images, tf.minimum(tf.range(part * replicas), count - 1))

        def own(context):
            start = context.replica_id_in_sync_group % replicas * part
            return filled[start : start + part]

        parts = strategy.experimental_distribute_values_from_function(own)
        return np.concatenate(strategy.experimental_local_results(on_replicas(parts)))[:count]

    return shared
