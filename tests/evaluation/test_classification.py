"""Errors against numbers worked by hand."""

import numpy as np
import pytest

from keras_resnet.evaluation import classification


def test_by_hand():
    scores = np.float32([[9, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4], [1, 0, 0, 0, 0, 2]])
    labels = np.array([0, 4, 5, 5])  # first, fifth, sixth, first
    batches = [(scores[:3], labels[:3]), (scores[3:], labels[3:])]
    assert classification.evaluate(lambda x: x, batches) == (50.0, 25.0, 4)


def test_not_a_number_is_wrong():
    errors = classification.evaluate(lambda x: np.full((2, 10), np.nan), [(np.zeros((2, 1)), np.array([0, 1]))])
    assert errors == (100.0, 100.0, 2)


def test_nothing_to_evaluate():
    with pytest.raises(ValueError, match="at least one image"):
        classification.evaluate(lambda x: x, [])
