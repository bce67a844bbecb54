"""The measures against scikit-learn and by hand, with ignored pixels and absent classes."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, jaccard_score
from sklearn.metrics import confusion_matrix as sklearn_confusion

from keras_resnet.errors import InputError
from keras_resnet.segmentation import metrics
from keras_resnet.segmentation.metrics import Result

CLASSES = 7


@pytest.fixture
def masks(random):
    """Labels and predictions u8[5,9,11]: 2 and 6 do not occur, 5 is only predicted, 4 never; a fifth is ignored."""
    labels = random.choice([0, 1, 3, 4], (5, 9, 11)).astype("uint8")
    labels[random.uniform(size=labels.shape) < 0.2] = 255
    predictions = random.choice([0, 1, 3, 5], labels.shape).astype("uint8")
    right = (random.uniform(size=labels.shape) < 0.5) & (labels != 255) & (labels != 4)
    return labels, np.where(right, labels, predictions)


def test_equals_scikit_learn(masks):
    labels, predictions = masks
    truth, predicted = labels[labels != 255], predictions[labels != 255]
    matrix = metrics.confusion_matrix(labels, predictions, CLASSES)
    np.testing.assert_array_equal(matrix, sklearn_confusion(truth, predicted, labels=range(CLASSES)))
    occurring = [0, 1, 3, 4, 5]
    expected = jaccard_score(truth, predicted, labels=occurring, average=None)
    np.testing.assert_allclose(metrics.iou(matrix)[occurring], expected)
    assert np.isnan(metrics.iou(matrix)[[2, 6]]).all()
    assert metrics.mean_iou(matrix) == pytest.approx(expected.mean())
    assert metrics.pixel_accuracy(matrix) == pytest.approx(accuracy_score(truth, predicted))
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert metrics.mean_accuracy(matrix) == pytest.approx(balanced_accuracy_score(truth, predicted))


def test_by_hand():
    """Truth 0 0 1 1 and an ignored pixel, predicted 0 1 1 2 and anything."""
    labels, predictions = np.uint8([[0, 0, 1, 1, 255]]), np.uint8([[0, 1, 1, 2, 3]])
    matrix = metrics.confusion_matrix(labels, predictions, 4)
    np.testing.assert_allclose(metrics.iou(matrix), [1 / 2, 1 / 3, 0, math.nan])
    assert metrics.mean_iou(matrix) == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)
    assert metrics.mean_accuracy(matrix) == 0.5
    assert metrics.pixel_accuracy(matrix) == 0.5


def test_a_matrix_of_parts_is_the_sum(masks):
    labels, predictions = masks
    parts = sum(metrics.confusion_matrix(*pair, CLASSES) for pair in zip(labels, predictions, strict=True))
    np.testing.assert_array_equal(parts, metrics.confusion_matrix(labels, predictions, CLASSES))


def test_nothing_labeled():
    matrix = metrics.confusion_matrix(np.full((2, 2), 255), np.zeros((2, 2), int), 3)
    for measure in (metrics.mean_iou, metrics.pixel_accuracy, metrics.mean_accuracy):
        assert math.isnan(measure(matrix))


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([0, 3], [0, 0], "labels must be classes from 0 to 2; got 0 to 3"),
        ([0, -1], [0, 0], "labels must be classes from 0 to 2; got -1 to 0"),
        ([0, 1], [0, 3], "predictions must be classes from 0 to 2; got 0 to 3"),
        ([0, 1], [0], r"predictions must have the shape of labels, \[2\]; got \[1\]"),
    ],
)
def test_wrong_classes(labels, predictions, message):
    with pytest.raises(InputError, match=message):
        metrics.confusion_matrix(np.array(labels), np.array(predictions), 3)


def test_result_in_percent(masks):
    matrix = metrics.confusion_matrix(*masks, CLASSES)
    result = Result(tuple("abcdefg"), matrix, 5)
    values = result.to_dict()
    assert values["mean_iou"] == pytest.approx(100 * metrics.mean_iou(matrix))
    assert values["iou"]["c"] is None
    assert values["accuracy"]["f"] is None
    assert values["iou"]["f"] == 0
    assert values["confusion"] == matrix.tolist()
    table = result.table()
    assert "| c | 0.00 |  |  |" in table
    assert f"| mean | 100.00 | {result.mean_iou:.2f} | {result.mean_accuracy:.2f} |" in table
    assert f"Pixel accuracy {result.pixel_accuracy:.2f} %." in table
