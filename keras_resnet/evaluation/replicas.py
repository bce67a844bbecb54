"""A network as a plain function from images to scores, on one device or shared by several."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.errors import InputError


def function(model: keras.Model, strategy: tf.distribute.Strategy | None = None) -> Callable:
    """Make a function from images to scores.

    With a strategy each replica computes an equal part of the batch, filled up with copies of its last image where it
    does not divide; the copies' scores are dropped, so that count and errors are those of one device.

    Args:
        model: f32[B,H,W,3] -> f32[B,...,K]; its variables must be made in the strategy's scope.
        strategy: a `MirroredStrategy`; by default one device.

    Returns:
        f32[B,H,W,3] -> f32[B,...,K] arrays.

    Raises:
        ValueError: the strategy has replicas on other machines.
    """
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise InputError("strategy must have its replicas on this machine; got a MultiWorkerMirroredStrategy.")
    spec = tf.TensorSpec([None, *[None] * (len(model.input_shape) - 2), model.input_shape[-1]])

    def forward(images):
        return model(images, training=False)

    if strategy is None:
        compiled = tf.function(forward, input_signature=[spec])
        return lambda images: compiled(images).numpy()

    @tf.function(reduce_retracing=True)
    def on_replicas(parts):
        return strategy.run(forward, args=(parts,))

    def shared(images):
        count, replicas = len(images), strategy.num_replicas_in_sync
        part = -(-count // replicas)
        filled = tf.gather(images, tf.minimum(tf.range(part * replicas), count - 1))

        def own(context):
            start = context.replica_id_in_sync_group * part
            return filled[start : start + part]

        parts = strategy.experimental_distribute_values_from_function(own)
        return np.concatenate(strategy.experimental_local_results(on_replicas(parts)))[:count]

    return shared


def strategy(replicas: int) -> tf.distribute.Strategy | None:
    """Share batches among devices of this machine.

    Args:
        replicas: GPUs to use; 0 for all. Without a GPU, the CPU is divided into so many logical devices, which helps
            nothing but tests.

    Returns:
        A strategy, or None for one device.

    Raises:
        ValueError: there are fewer GPUs, or TensorFlow has started and the CPU can no longer be divided.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if replicas > len(gpus) > 0:
        raise InputError(f"replicas must be at most the {len(gpus)} GPUs of this machine; got {replicas}.")
    replicas = replicas or len(gpus)
    if replicas <= 1:
        return None
    if not gpus:
        (cpu,) = tf.config.list_physical_devices("CPU")
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
        except RuntimeError as error:
            if len(tf.config.list_logical_devices("CPU")) < replicas:
                raise InputError(f"replicas cannot divide the CPU once TensorFlow runs; got {replicas}.") from error
    kind = "GPU" if gpus else "CPU"
    return tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(replicas)])
