"""Suppression against a greedy loop and TensorFlow's combined operation; voting by hand."""

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.detection import nms


def iou(a, b):
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(height, 0) * max(width, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def greedy(boxes, scores, nms_thresh, score_thresh):
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        if scores[index] > score_thresh and all(iou(boxes[index], boxes[other]) <= nms_thresh for other in kept):
            kept.append(index)
    return kept


@pytest.fixture
def scene(random):
    corner = random.uniform(0, 60, (2, 80, 3, 2))
    boxes = np.concatenate([corner, corner + random.uniform(10, 40, corner.shape)], -1).astype("float32")
    probabilities = random.dirichlet(np.ones(4), (2, 80)).astype("float32")
    return boxes, probabilities


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("most", [10, 100])
def test_each_class_is_suppressed_separately(scene, most, compiled):
    boxes, probabilities = scene
    valid = np.ones((2, 80), bool)
    valid[1, 40:] = False
    run = tf.function(
        lambda *a: nms.detections(*a, score_thresh=0.2, nms_thresh=0.3, detections_per_image=most), jit_compile=compiled
    )
    result = run(tf.constant(boxes), tf.constant(probabilities), tf.constant(valid))
    for image in range(2):
        expected = []
        for label in (1, 2, 3):
            scores = np.where(valid[image], probabilities[image, :, label], 0)
            of_class = boxes[image, :, label - 1]
            expected += [(scores[i], label, *of_class[i]) for i in greedy(of_class, scores, 0.3, 0.2)]
        expected = sorted(expected, reverse=True)[:most]
        count = int(result.count[image])
        assert count == len(expected)
        got = np.column_stack([result.scores[image], result.classes[image], result.boxes[image]])
        np.testing.assert_allclose(got[:count], expected, rtol=1e-5)
        assert not got[count:].any()


def test_as_tensorflows_combined_operation(scene):
    boxes, probabilities = scene
    theirs = tf.image.combined_non_max_suppression(
        boxes / 100, probabilities[..., 1:], 80, 100, iou_threshold=0.3, score_threshold=0.2, clip_boxes=False
    )
    ours = nms.detections(tf.constant(boxes), tf.constant(probabilities), tf.ones([2, 80], tf.bool), score_thresh=0.2)
    np.testing.assert_array_equal(ours.count, theirs.valid_detections)
    np.testing.assert_allclose(ours.scores, theirs.nmsed_scores, rtol=1e-6)
    np.testing.assert_allclose(ours.boxes / 100, theirs.nmsed_boxes, rtol=1e-5)


def test_equal_scores_keep_the_first_box():
    boxes = tf.constant([[[0.0, 0, 10, 10], [0, 1, 10, 11], [50, 50, 60, 60]]])
    index, valid = nms.suppress(boxes, tf.constant([[0.5, 0.5, 0.5]]), 3, 0.5, 0.0)
    assert index.numpy()[valid.numpy()].tolist() == [0, 2]


def test_votes_are_weighted_by_score_and_stay_within_the_class():
    boxes = np.zeros((1, 3, 2, 4), "float32")
    boxes[0, :, 0] = [[0, 0, 10, 10], [0, 2, 10, 12], [50, 50, 60, 60]]
    boxes[0, :, 1] = [[0, 0, 10, 20]] * 3
    probabilities = np.array([[[0.1, 0.6, 0.3], [0.5, 0.2, 0.3], [0.5, 0.4, 0.1]]], "float32")
    result = nms.detections(
        tf.constant(boxes),
        tf.constant(probabilities),
        tf.ones([1, 3], tf.bool),
        score_thresh=0.15,
        nms_thresh=0.3,
        vote_thresh=0.5,
    )
    # Of class 1, the boxes with scores 0.6 and 0.2 overlap by 2/3 and vote for left = 0.2 * 2 / 0.8.
    assert result.classes.numpy()[0, :3].tolist() == [1, 1, 2]
    np.testing.assert_allclose(result.boxes[0, 0], [0, 0.5, 10, 10.5], rtol=1e-6)
    np.testing.assert_allclose(result.boxes[0, 1], [50, 50, 60, 60], rtol=1e-6)
    np.testing.assert_allclose(result.boxes[0, 2], [0, 0, 10, 20], rtol=1e-6)


def test_nothing_found():
    result = nms.detections(tf.ones([1, 4, 2, 4]), tf.constant([[[1.0, 0, 0]] * 4]), tf.ones([1, 4], tf.bool))
    assert int(result.count[0]) == 0
    assert not result.boxes.numpy().any()
