"""The devkit's rules: an IoU that counts pixels, errors of up to five pairs, and the blacklist."""

import math

import numpy as np
import pytest

from keras_resnet.errors import InputError
from keras_resnet.localization import metrics
from keras_resnet.localization.metrics import LocalizationError


def counted_iou(first, second, canvas=40):
    """IoU by counting the pixels of two boxes (ymin, xmin, ymax, xmax), of which the last row and column belong."""
    y, x = np.mgrid[:canvas, :canvas]
    one, other = (
        (y >= top) & (x >= left) & (y <= bottom) & (x <= right) for top, left, bottom, right in (first, second)
    )
    return (one & other).sum() / (one | other).sum()


def reference(images):
    """Errors in percent: true class, localization of the best 5 and 1, classification of the best 5 and 1."""
    wrong, counts = np.zeros(5), np.zeros(5)
    for label, truth, classes, boxes, given, blacklisted in images:
        hits = [
            cls == label and any(counted_iou(box, true) >= 0.5 for true in truth)
            for cls, box in zip(classes, boxes, strict=True)
        ]
        if not blacklisted:
            counts[:3] += 1
            wrong[:3] += (
                not any(counted_iou(given, true) >= 0.5 for true in truth),
                not any(hits),
                not any(hits[:1]),
            )
        counts[3:] += 1
        wrong[3:] += (label not in classes, label not in classes[:1])
    return 100 * wrong / counts


def continuous(boxes):
    """Boxes of pixels in continuous coordinates."""
    return np.asarray(boxes, "float64").reshape(-1, 4) + np.array([0, 0, 1, 1])


def random_boxes(random, count):
    corner, sides = random.integers(0, 20, (count, 2)), random.integers(0, 20, (count, 2))
    return np.concatenate([corner, corner + sides], 1)


def random_images(seed, count=60):
    """Images whose predictions are often near the truth, some without a prediction or a true box."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        truth = random_boxes(random, random.integers(0, 4))
        classes = random.permutation(7)[: random.integers(0, 6)].tolist()
        near = truth[random.integers(0, len(truth), 6)] if len(truth) else random_boxes(random, 6)
        boxes = np.clip(near + random.integers(-3, 4, (6, 4)), 0, 39)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
        images.append(
            (int(random.integers(7)), truth, classes, boxes[:-1][: len(classes)], boxes[-1], random.random() < 0.2)
        )
    return images


def collected(images):
    errors = LocalizationError()
    for label, truth, classes, boxes, given, blacklisted in images:
        errors.update(label, continuous(truth), classes, continuous(boxes), continuous(given)[0], blacklisted)
    return errors


def numbers(result):
    return [value for value, _ in result.errors().values()]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 0, 9, 9), (0, 0, 9, 9), 1),
        ((0, 0, 9, 9), (0, 0, 9, 4), 1 / 2),  # 50 of 100 pixels; 4/9 by the difference of coordinates
        ((0, 0, 9, 9), (0, 0, 9, 3), 2 / 5),
        ((0, 0, 9, 9), (9, 9, 18, 18), 1 / 199),  # they share the pixel at the corner
        ((0, 0, 9, 9), (0, 10, 9, 19), 0),  # neighbors
        ((3, 3, 3, 3), (3, 3, 3, 3), 1),  # a single pixel
        ((0, 0, 1, 1), (0, 0, 0, 0), 1 / 4),
        ((5, 5, 3, 3), (0, 0, 9, 9), 0),  # ends before it begins
        ((-5, 0, 4, 9), (0, 0, 9, 9), 50 / 150),  # beyond the border of the image
    ],
)
def test_iou_by_hand(first, second, expected):
    assert metrics.devkit_iou(first, second)[0, 0] == pytest.approx(expected, abs=1e-15)
    assert metrics.devkit_iou(second, first)[0, 0] == pytest.approx(expected, abs=1e-15)
    assert metrics.iou(continuous(first), continuous(second))[0, 0] == pytest.approx(expected, abs=1e-15)


def test_iou_counts_pixels():
    random = np.random.default_rng(0)
    first, second = random_boxes(random, 30), random_boxes(random, 20)
    counted = [[counted_iou(one, other) for other in second] for one in first]
    np.testing.assert_allclose(metrics.devkit_iou(first, second), counted, atol=1e-15)
    assert metrics.devkit_iou(np.zeros((0, 4)), second).shape == (0, 20)


@pytest.mark.parametrize("seed", range(8))
def test_errors_equal_the_reference(seed):
    images = random_images(seed)
    result = collected(images).result()
    np.testing.assert_allclose(numbers(result), reference(images), atol=1e-12)
    assert result.blacklisted == sum(image[-1] for image in images) > 0
    assert 0 < result.localization_error < 100


RIGHT, WRONG = (0, 0, 10, 10), (0, 20, 10, 30)
FAR = (30, 30, 40, 40)


@pytest.mark.parametrize(
    ("truth", "classes", "boxes", "rank", "place"),
    [
        ([RIGHT], [3], [RIGHT], 0, 0),
        ([FAR, RIGHT], [3], [RIGHT], 0, 0),  # any box of the class
        ([RIGHT], [1, 2, 4, 5, 3], [FAR] * 4 + [RIGHT], 4, 4),  # the fifth pair
        ([RIGHT], [1, 3], [RIGHT, FAR], 1, 5),  # the right box belongs to the wrong class
        ([RIGHT], [1, 2], [RIGHT, RIGHT], 5, 5),
        ([RIGHT], [3, 3], [FAR, RIGHT], 0, 1),  # a class may occur twice
        ([RIGHT], [3], [(0, 0, 10, 5)], 0, 0),  # an IoU of exactly 0.5
        ([RIGHT], [3], [(0, 0, 10, 4)], 0, 5),
        ([RIGHT], [], [], 5, 5),
        ([], [3], [RIGHT], 0, 5),  # no box of the class
        ([(-4, 0, 10, 10)], [3], [RIGHT], 0, 0),  # truth beyond the border
        ([(0, 0, 30, 10), (0, 0, 10, 30)], [3], [RIGHT], 0, 5),
    ],
)
def test_an_image_by_hand(truth, classes, boxes, rank, place):
    outcome = metrics.judge(3, np.array(truth, "float64"), classes, np.array(boxes, "float64"))
    assert (outcome.rank, outcome.place, outcome.iou) == (rank, place, None)


def test_blacklisted_images_leave_the_localization_errors_only():
    errors = LocalizationError()
    errors.update(0, [RIGHT], [0], [RIGHT], RIGHT)
    errors.update(0, [RIGHT], [0], [FAR], FAR)
    errors.update(0, [RIGHT], [1], [FAR], FAR, blacklisted=True)
    errors.update(0, [RIGHT], [1], [FAR], RIGHT, blacklisted=True)
    result = errors.result()
    assert numbers(result) == [50, 50, 50, 50, 50]
    assert [count for _, count in result.errors().values()] == [2, 2, 2, 4, 4]
    assert result.to_dict()["blacklisted"] == 2
    assert "| localization error | 50.00 |" in result.table()


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_errors_do_not_depend_on_batches_or_replicas(replicas):
    """Each replica sees every third image, and the first ones again to fill up its last batch."""
    images = random_images(11, 20)
    parts = []
    for replica in range(replicas):
        part = LocalizationError()
        for index in [*range(replica, 20, replicas), 0, 1]:
            label, truth, classes, boxes, given, blacklisted = images[index]
            arguments = (label, continuous(truth), classes, continuous(boxes), continuous(given), blacklisted)
            part.update(*arguments, index=index)
        parts.append(part)
    total = LocalizationError()
    total.merge(parts[::-1])
    assert total.result() == collected(images).result()


def test_errors_without_anything_to_count():
    errors = LocalizationError()
    with pytest.raises(InputError, match="at least one image"):
        errors.result()
    errors.update(0, [RIGHT], [0], [RIGHT], blacklisted=True)
    result = errors.result()
    assert math.isnan(result.localization_error)
    assert math.isnan(result.true_class_error)
    assert result.to_dict()["localization_error"] is None
    assert result.classification_error == 0


def test_errors_of_predicted_classes_are_unknown_without_predictions():
    errors = LocalizationError()
    errors.update(0, [RIGHT], [], [], RIGHT)
    result = errors.result()
    assert [math.isnan(value) for value in numbers(result)] == [False, True, True, True, True]
    assert "localization error" not in result.table()
    errors.update(0, [RIGHT], [0], [RIGHT], RIGHT)
    assert errors.result().localization_error == 50


def test_a_missing_box_of_the_true_class_is_wrong():
    errors = LocalizationError()
    errors.update(0, [RIGHT], [], [], RIGHT)
    errors.update(0, [RIGHT], [], [], None)
    assert errors.result().true_class_error == 50
    assert errors.result().mean_iou == 0.5


def test_the_mean_iou_is_that_of_the_boxes_of_the_true_class():
    errors = LocalizationError()
    errors.update(0, [[0, 0, 10, 10]], [], [], [0, 0, 10, 5])
    errors.update(0, [[0, 0, 10, 10], [0, 0, 10, 4]], [], [], [0, 0, 10, 5])
    errors.update(0, [[0, 0, 10, 10]], [], [], [0, 0, 10, 10], blacklisted=True)
    result = errors.result()
    assert result.mean_iou == pytest.approx((0.5 + 0.8) / 2)
    assert result.to_dict()["mean_iou"] == result.mean_iou
    unmeasured = LocalizationError()
    unmeasured.update(0, [RIGHT], [0], [RIGHT])
    assert unmeasured.result().to_dict()["mean_iou"] is None


@pytest.mark.parametrize(("classes", "boxes"), [([0] * 6, [RIGHT] * 6), ([0, 1], [RIGHT])])
def test_wrong_predictions(classes, boxes):
    with pytest.raises(InputError, match="at most 5 classes with a box each"):
        metrics.judge(0, [RIGHT], classes, boxes)


def test_the_center_box_has_the_share_of_the_area():
    (box,) = metrics.center_box((100, 200), 0.25)
    np.testing.assert_allclose(box, [25, 50, 75, 150])
    np.testing.assert_allclose(metrics.center_box((30, 40), 1), [[0, 0, 30, 40]])
