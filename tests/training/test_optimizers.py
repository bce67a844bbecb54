"""The update rule against NumPy."""

import keras
import numpy as np

from keras_resnet.training.optimizers import SGD


def test_twenty_steps_of_the_paper_rule(random):
    """v = momentum * v - rate * (gradient + l2 * w); w = w + v, with the rate divided by ten at step 10."""
    start = random.normal(size=(7, 3)).astype("float32")
    gradients = random.normal(size=(20, 7, 3)).astype("float32")
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([9], [0.1, 0.01])
    optimizer = SGD(schedule, momentum=0.9, l2=1e-2)
    variable = keras.Variable(start)
    optimizer.build([variable])
    w, v = start.astype("float64"), 0.0
    for step, gradient in enumerate(gradients):
        optimizer.apply([keras.ops.convert_to_tensor(gradient)])
        v = 0.9 * v - (0.1 if step < 10 else 0.01) * (gradient + 1e-2 * w)
        w = w + v
        np.testing.assert_allclose(variable.numpy(), w, atol=1e-6)


def test_config_round_trip():
    optimizer = SGD(0.3, momentum=0.8, l2=1e-3)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is SGD
    assert again.get_config() == optimizer.get_config()
