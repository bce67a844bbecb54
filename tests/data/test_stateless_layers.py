"""Keras' random layers are functions of their inputs and a seed."""

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.data import stateless_layers
from tests.conftest import KERAS_2

pytestmark = pytest.mark.skipif(KERAS_2, reason="the layers are of Keras 3")


def one_hot_batch(images):
    return {"images": images, "labels": tf.one_hot(tf.range(images.shape[0]), images.shape[0])}


@pytest.mark.parametrize(
    ("name", "arguments", "prepare"),
    [
        ("rand_augment", (0.5, 2), lambda images: images),
        ("random_erasing", (1.0,), lambda images: images),
        ("mix_up", (1.0,), one_hot_batch),
        ("cut_mix", (1.0,), one_hot_batch),
    ],
)
def test_the_seed_decides_all_draws(name, arguments, prepare, random):
    layer = getattr(stateless_layers, name)(*arguments)
    inputs = prepare(tf.constant(random.uniform(0, 255, (4, 16, 16, 3)), tf.float32))
    first, other, again = (tf.nest.flatten(layer(inputs, tf.constant([3, seed]))) for seed in (1, 2, 1))
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
