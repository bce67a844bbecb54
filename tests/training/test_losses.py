"""Loss, metric and schedule against NumPy and numbers worked by hand."""

import keras
import numpy as np
import pytest

from keras_resnet.training.losses import BinaryCrossEntropy, CrossEntropy, Top1Error


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["indices", "column", "distributions"])
def test_cross_entropy(kind, smoothing, random):
    logits = random.normal(size=(5, 4)).astype("float32")
    index = np.array([0, 3, 2, 1, 1])
    labels = {"indices": index, "column": index[:, None], "distributions": np.float32(np.eye(4)[index])}[kind]
    target = np.eye(4)[index] * (1 - smoothing) + smoothing / 4
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -(target * log_softmax).sum(1).mean()
    np.testing.assert_allclose(CrossEntropy(smoothing)(labels, logits), expected, rtol=1e-5)


@pytest.mark.parametrize(("smoothing", "threshold"), [(0.0, 0.0), (0.1, 0.0), (0.1, 0.2)])
def test_binary_cross_entropy(smoothing, threshold, random):
    """Against -t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)), the mean over classes and images."""
    logits = random.normal(size=(3, 4)).astype("float32")
    shares = np.float32([[0.7, 0.3, 0, 0], [0, 0.9, 0.1, 0], [0, 0, 0, 1]])
    whole = np.float32([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    target = (whole if threshold else shares) * (1 - smoothing) + smoothing / 4
    sigmoid = 1 / (1 + np.exp(-logits.astype("float64")))
    expected = -(target * np.log(sigmoid) + (1 - target) * np.log(1 - sigmoid)).mean()
    loss = BinaryCrossEntropy(smoothing, threshold)
    np.testing.assert_allclose(loss(shares, logits), expected, rtol=1e-5)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    np.testing.assert_allclose(again(shares, logits), expected, rtol=1e-5)
    index = np.array([0, 1, 3])
    np.testing.assert_allclose(loss(index, logits), loss(np.float32(np.eye(4)[index]), logits), rtol=1e-6)


def test_top1_error_by_hand():
    metric = Top1Error()
    scores = np.float32([[1, 2, 0], [3, 0, 0], [0, 0, 1]])
    metric.update_state(np.array([1, 1, 2]), scores)
    assert abs(float(metric.result()) - 100 / 3) < 1e-4
    metric.update_state(np.float32([[0.4, 0.6, 0]]), scores[:1])
    assert float(metric.result()) == 25.0


def test_they_survive_serialisation():
    for thing in (CrossEntropy(0.2), Top1Error()):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(thing))
        assert again.get_config() == thing.get_config()
