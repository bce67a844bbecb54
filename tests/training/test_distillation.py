"""The loss of a student against its formula in NumPy."""

import keras
import numpy as np
import pytest

from keras_resnet.training.distillation import distilled
from keras_resnet.training.losses import CrossEntropy

pytestmark = pytest.mark.skipif(not hasattr(keras, "ops"), reason="distillation requires Keras 3")


def softmax(logits):
    values = np.exp(logits - logits.max(-1, keepdims=True))
    return values / values.sum(-1, keepdims=True)


def linear(classes=3, seed=0):
    inputs = keras.Input((2, 2, 1))
    initial = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
    outputs = keras.layers.Dense(classes, kernel_initializer=initial)(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, outputs, name="linear")


@pytest.mark.parametrize(("weight", "temperature"), [(0.3, 2.0), (1.0, 1.0), (0.0, 4.0)])
def test_the_loss_of_training_and_evaluation(weight, temperature, random):
    student, teacher = linear(seed=1), linear(seed=2)
    images, labels = random.normal(size=(8, 2, 2, 1)).astype("float32"), random.integers(0, 3, 8)
    given, wanted = (model.predict_on_batch(images).astype("float64") for model in (student, teacher))
    model = distilled(student, lambda x: teacher(x, training=False), weight, temperature)
    model.compile(keras.optimizers.SGD(0.0), CrossEntropy())
    p, q = softmax(wanted / temperature), softmax(given / temperature)
    divergence = temperature**2 * np.mean(np.sum(p * (np.log(p) - np.log(q)), -1))
    entropy = -np.mean(np.log(softmax(given)[np.arange(8), labels]))
    expected = (1 - weight) * entropy + weight * divergence
    assert abs(model.train_on_batch(images, labels) - expected) < 1e-5
    model.reset_metrics()
    assert abs(model.test_on_batch(images, labels) - entropy) < 1e-5


def test_only_the_student_learns_and_it_learns_the_scores(random):
    student, teacher = linear(seed=1), linear(seed=2)
    before = teacher.get_weights()
    images = random.normal(size=(64, 2, 2, 1)).astype("float32")
    model = distilled(student, lambda x: teacher(x, training=False), 1.0, 1.0)
    assert len(model.weights) == len(student.weights)
    assert model.name == "linear"
    model.compile(keras.optimizers.Adam(0.1), CrossEntropy())
    for _ in range(200):
        model.train_on_batch(images, np.zeros(64))
    for old, new in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    given, wanted = (softmax(each.predict_on_batch(images)) for each in (student, teacher))
    np.testing.assert_allclose(given, wanted, atol=0.05)
