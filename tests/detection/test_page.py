"""The errors that the page of a detector's evaluation shows, against matches that are worked out by hand."""

import numpy as np

from keras_resnet.detection import page
from keras_resnet.detection.average_precision import Detections
from keras_resnet.detection.data.annotations import Annotation
from keras_resnet.detection.page import Errors, errors

BOX, SHIFTED, FAR = (10, 10, 30, 30), (12, 10, 32, 30), (60, 60, 80, 80)  # IoU of the first two: 18 * 20 / 440 = 0.82


def annotation(boxes, labels, difficult=None):
    count = len(labels)
    none = np.zeros(count, bool)
    hard = none if difficult is None else np.array(difficult)
    boxes = np.array(boxes, "float64").reshape(-1, 4)
    return Annotation("a.jpg", 0, (100, 100), boxes, np.array(labels, "int32"), hard, none, np.ones(count))


def detections(*rows):
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(np.array(boxes, "float64").reshape(-1, 4), np.array(scores), np.array(labels, "int32"))


def test_a_detection_finds_one_object_of_its_class():
    truth = annotation([BOX, FAR], [0, 1])
    assert errors(detections((SHIFTED, 0.9, 0), (FAR, 0.8, 1)), truth) == Errors((), ())
    assert errors(detections((SHIFTED, 0.9, 1)), truth) == Errors((0, 1), (0,)), "of another class"
    assert errors(detections((SHIFTED, 0.7, 0), (BOX, 0.9, 0)), truth) == Errors((1,), (0,)), "the better one finds it"
    assert errors(detections((BOX, 0.49, 0)), truth) == Errors((0, 1), ()), "too improbable to be drawn"
    assert errors(detections(), truth) == Errors((0, 1), ())
    assert errors(detections((BOX, 0.9, 0)), annotation([], [])) == Errors((), (0,))


def test_two_objects_in_one_place_are_found_by_two_detections():
    truth = annotation([BOX, SHIFTED], [0, 0])
    assert errors(detections((BOX, 0.9, 0), (BOX, 0.8, 0)), truth) == Errors((), ())


def test_difficult_objects_count_neither_way():
    truth = annotation([BOX, FAR], [0, 0], difficult=[True, False])
    assert errors(detections((BOX, 0.9, 0)), truth) == Errors((1,), ())


def test_missed_objects_of_a_class_are_one_line():
    truth, found = annotation([BOX, SHIFTED, FAR], [0, 0, 1]), detections((FAR, 0.75, 0))
    lines = page._lines(found, truth, errors(found, truth), ["cell", "plate"])
    assert lines == ["missed: 2 x cell", "missed: plate", "wrong: cell 0.75"]
