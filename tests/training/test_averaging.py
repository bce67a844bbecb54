"""The moving average of weights against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.models import resnet
from keras_resnet.training import averaging, optimizers
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


@pytest.mark.parametrize("trained", [False, True])
def test_equal_shares_from_a_step_on(trained, random):
    """From step 4 on, every second step: the mean of the weights of steps 4, 6, 8 and 10; before, the weights."""
    model = network()
    average = WeightAverage(model, decay=0.0, every=2, start=4, trained=trained)
    seen = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append([weight.numpy() for weight in model.trainable_variables])
            if batch == 2:
                with average.applied():
                    for weight, last in zip(model.trainable_variables, seen[-1], strict=True):
                        np.testing.assert_array_equal(weight.numpy(), last)

    images = random.normal(size=(44, 8, 8, 3)).astype("float32")
    labels = random.integers(0, 3, 44)
    model.fit(images, labels, batch_size=4, shuffle=False, verbose=0, callbacks=[average, Record()])
    statistics = model.get_layer("conv1_bn").moving_mean.numpy()
    with average.applied():
        for number, weight in enumerate(model.trainable_variables):
            mean = np.mean([seen[step - 1][number] for step in (4, 6, 8, 10)], axis=0)
            np.testing.assert_allclose(weight.numpy(), mean, atol=1e-6)
        assert np.array_equal(model.get_layer("conv1_bn").moving_mean.numpy(), statistics) == trained


@pytest.mark.parametrize(("decay", "every", "start"), [(0.8, 1, 0), (0.0, 2, 4)])
def test_the_average_of_an_optimizer_is_that_of_the_callback(decay, every, start, random):
    """tensorflow-addons' MovingAverage and SWA against the average of this package."""
    pytest.importorskip("tensorflow_addons", reason="tensorflow-addons is for TensorFlow 2.15; see docs/stacks.md")
    model = network()
    optimizer = optimizers.make("sgdw", 0.1, average=averaging.in_optimizer(decay, every, start))
    model.compile(optimizer, "sparse_categorical_crossentropy")
    theirs, ours = (WeightAverage(model, decay, every, start=start, trained=True) for _ in range(2))
    theirs.take_from(model.optimizer)
    images = random.normal(size=(44, 8, 8, 3)).astype("float32")
    model.fit(images, random.integers(0, 3, 44), batch_size=4, shuffle=False, verbose=0, callbacks=[theirs, ours])
    assert len(theirs.averages) == len(ours.averages) == len(model.trainable_variables)
    for one, other in zip(theirs.averages, ours.averages, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6)
