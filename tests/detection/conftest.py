"""A small detector, trained once for all tests: the synthetic overfit."""

import keras
import pytest
import tensorflow as tf

from tests.detection.scenes import scenes, tiny


@pytest.fixture(scope="package")
def trained():
    """200 steps on 16 pictures."""
    keras.utils.set_random_seed(0)
    model = tiny()
    model.compile(keras.optimizers.Adam(2e-3), jit_compile=False)
    batches = tf.data.Dataset.from_tensor_slices(scenes(16, 0)).repeat().batch(8)
    model.fit(batches, steps_per_epoch=200, verbose=0, shuffle=False)
    return model
