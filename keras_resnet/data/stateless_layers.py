"""Keras' random layers as pure functions of their inputs and a seed.

Keras draws from generators that keep a state; training data must be a function of the run's seed and the step alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_resnet import compat

StatelessLayer = Callable[[Any, tf.Tensor], Any]
"""Function of a layer's inputs and a seed i32[2]."""


class _SeedSequence(compat.SeedGenerator):
    """Seeds for one layer, derived from one tensor: the n-th draw folds n into it."""

    def __init__(self, stream: int):
        self.stream = stream
        self.count = 0
        self.seed: tf.Tensor | None = None

    def next(self, ordered: bool = True) -> tf.Tensor:
        self.count += 1
        return tf.random.fold_in(self.seed, self.stream * 1000 + self.count)


def stateless(layer: keras.layers.Layer) -> StatelessLayer:
    """Turn a random layer, with the layers among its attributes, into a pure function of (inputs, seed)."""
    inner = [value for value in vars(layer).values() if isinstance(value, keras.layers.Layer)]
    sequences = []
    for number, part in enumerate([layer, *inner]):
        if hasattr(part, "generator"):
            sequences.append(_SeedSequence(number))
            part.generator = sequences[-1]

    def call(inputs: Any, seed: tf.Tensor) -> Any:
        for sequence in sequences:
            sequence.seed, sequence.count = seed, 0
        return layer(inputs, training=True)

    return call


# A transform is made once and traced several times, hence the caches. The layers have a dtype of their own because the
# global policy may be a lower precision.


@functools.cache
def rand_augment(magnitude: float, operations: int) -> StatelessLayer:
    """Return RandAugment for f32[B,H,W,3] in [0, 255]; all images of a batch get the same operations."""
    return stateless(
        keras.layers.RandAugment(value_range=(0, 255), num_ops=operations, factor=magnitude, seed=0, dtype="float32")
    )


@functools.cache
def random_erasing(probability: float) -> StatelessLayer:
    """Return RandomErasing for normalized f32[B,H,W,3]; erased pixels become 0, the mean."""
    # A factor that is one number means the range from 0 to it.
    factor = (probability, probability)
    return stateless(
        keras.layers.RandomErasing(factor=factor, fill_value=0.0, value_range=(-4, 4), seed=0, dtype="float32")
    )


@functools.cache
def mix_up(alpha: float) -> StatelessLayer:
    """Return MixUp for {"images": f32[B,H,W,3], "labels": f32[B,K]}."""
    return stateless(keras.layers.MixUp(alpha=alpha, seed=0, dtype="float32"))


@functools.cache
def cut_mix(alpha: float) -> StatelessLayer:
    """Return CutMix for {"images": f32[B,H,W,3], "labels": f32[B,K]}."""
    return stateless(keras.layers.CutMix(factor=(alpha, alpha), seed=0, dtype="float32"))
