"""Averages over views against plain NumPy."""

import numpy as np
import pytest

from keras_resnet.evaluation.scores import RunningAverage, average, log_probabilities, score


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_averages(random):
    logits = 3 * random.normal(size=(4, 5, 6))
    log_p = log_probabilities(logits, from_logits=True)
    np.testing.assert_allclose(np.exp(average(log_p, 1)), softmax(logits).mean(1), atol=1e-12)
    np.testing.assert_allclose(np.exp(average(log_p, 1, "logits")), softmax(logits.mean(1)), atol=1e-12)
    np.testing.assert_allclose(log_probabilities(softmax(logits), from_logits=False), log_p, atol=1e-12)
    with pytest.raises(ValueError, match="average must be one of 'probabilities', 'logits'"):
        average(log_p, 1, "votes")


@pytest.mark.parametrize("how", ["probabilities", "logits"])
def test_running_average(random, how):
    passes = log_probabilities(3 * random.normal(size=(3, 7, 6)), from_logits=True)
    running = RunningAverage(how)
    for values in passes:
        running.add(values)
    np.testing.assert_allclose(running.result(), average(passes, 0, how), atol=1e-6)


def test_views_and_positions_are_averaged(random):
    """Two views of each of three images, and scores at 2x4 positions of each view."""
    images, tables = np.arange(6).reshape(3, 2, 1, 1, 1), random.normal(size=(6, 2, 4, 5))
    shapes = []

    def scores(views):
        shapes.append(views.shape)
        return tables[views[:, 0, 0, 0]]

    ((_, values),) = score(scores, [(images, np.array([0, 1, 2]))])
    assert shapes == [(6, 1, 1, 1)]
    expected = softmax(tables).reshape(3, 16, 5).mean(1)
    np.testing.assert_allclose(np.exp(values), expected, atol=1e-12)


def test_invalid_probabilities():
    good, bad = np.array([[0.5, 0.5]]), np.array([[-3.0, 4.0]])
    batches = [(good, np.array([0])), (bad, np.array([0]))]
    with pytest.raises(ValueError, match="scores must be from 0 to 1 for probabilities; they reach -3"):
        list(score(lambda x: x, batches))
