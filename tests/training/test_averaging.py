"""The moving average of weights against NumPy."""

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.models import resnet
from keras_resnet.training.averaging import WeightAverage


def network():
    model = resnet.ResNet([(4, 1, 1)], block="basic", stem="cifar", input_shape=(8, 8, 3), classes=3)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model


def test_average_of_weights_and_statistics(random):
    """After update n the share of the old average is min(0.8, (1 + n) / (10 + n)); every second step is one."""
    model = network()
    average = WeightAverage(model, decay=0.8, every=2)
    expected = [weight.astype("float64") for weight in model.get_weights()]
    seen = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(model.get_weights())

    images = random.normal(size=(48, 8, 8, 3)).astype("float32")
    labels = random.integers(0, 3, 48)
    model.fit(images, labels, batch_size=4, shuffle=False, verbose=0, callbacks=[average, Record()])
    assert len(seen) == 12
    for number, weights in enumerate(seen[1::2], start=1):
        share = min(0.8, (1 + number) / (10 + number))
        expected = [share * old + (1 - share) * new for old, new in zip(expected, weights, strict=True)]
    last = model.get_weights()
    with average.applied():
        for ours, theirs in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for ours, theirs in zip(model.get_weights(), last, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert any(np.abs(old - new).max() > 1e-3 for old, new in zip(expected, last, strict=True))


def test_evaluation_within_fit_is_of_the_average(random):
    """The loss that `fit` reports for the test images is that of a network with the averaged weights."""
    model = network()
    average = WeightAverage(model, decay=0.9)
    images = random.normal(size=(16, 8, 8, 3)).astype("float32")
    labels = random.integers(0, 3, 16)
    tests = tf.data.Dataset.from_tensors((images, labels))
    history = model.fit(images, labels, batch_size=4, verbose=0, validation_data=tests, callbacks=[average]).history
    own = model.evaluate(tests, verbose=0)
    with average.applied():
        averaged = model.evaluate(tests, verbose=0)
    np.testing.assert_allclose(history["val_loss"], averaged, rtol=1e-6)
    assert abs(own - averaged) > 1e-3
