"""Boxes against loops, Keras' box utilities, and numbers worked by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.ops import boxes


def random_boxes(random, *shape, size=100.0):
    corner = random.uniform(0, size, (*shape, 2))
    return np.concatenate([corner, corner + random.uniform(1, size / 2, (*shape, 2))], -1).astype("float32")


def test_iou_by_hand():
    first = np.array([[[0, 0, 2, 2], [0, 0, 0, 0], [1, 1, 1, 5]]], "float32")
    second = np.array([[[1, 1, 3, 3], [0, 0, 2, 2], [0, 0, 0, 0]]], "float32")
    np.testing.assert_allclose(boxes.iou(first, second)[0], [[1 / 7, 1, 0], [0, 0, 0], [0, 0, 0]], rtol=1e-6)


def test_iou_is_keras(random):
    first, second = random_boxes(random, 2, 7), random_boxes(random, 2, 5)
    theirs = keras.utils.bounding_boxes.compute_iou(first, second, "yxyx")
    np.testing.assert_allclose(boxes.iou(first, second), theirs, atol=1e-6)


def test_coverage_is_over_the_first_box():
    crowd, small = [[0, 0, 10, 10]], [[0, 0, 2, 2], [9, 9, 11, 11], [0, 0, 0, 0]]
    found = boxes.coverage(tf.constant(small, tf.float32), tf.constant(crowd, tf.float32))
    np.testing.assert_allclose(found[:, 0], [1, 0.25, 0])


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (10, 10, 5, 5)])
def test_deltas_go_there_and_back(random, weights):
    found, anchors = random_boxes(random, 3, 50), random_boxes(random, 3, 50)
    deltas = boxes.encode(tf.constant(found), tf.constant(anchors), weights)
    np.testing.assert_allclose(boxes.decode(deltas, tf.constant(anchors), weights), found, atol=1e-3)


def test_deltas_are_kerass(random):
    found, anchors = random_boxes(random, 50), random_boxes(random, 50)
    ours = boxes.encode(tf.constant(found), tf.constant(anchors), (10, 10, 5, 5))
    theirs = keras.utils.bounding_boxes.encode_box_to_deltas(
        anchors, found, "yxyx", "yxyx", variance=[0.1, 0.1, 0.2, 0.2]
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_wild_delta_gives_no_wild_box():
    anchor = tf.constant([[0.0, 0, 16, 16]])
    height = boxes.decode(tf.constant([[0.0, 0, 50, 0]]), anchor)[0]
    np.testing.assert_allclose(height, [8 - 500, 0, 8 + 500, 16], rtol=1e-5)


def test_degenerate_boxes_encode_to_finite_deltas():
    flat = tf.constant([[3.0, 3, 3, 9]])
    assert np.isfinite(boxes.encode(flat, tf.constant([[0.0, 0, 16, 16]]))).all()
    assert np.isfinite(boxes.encode(flat, tf.zeros([1, 4]))).all()


def test_clip_takes_each_images_own_size():
    found = tf.constant([[[-5.0, -5, 200, 300]], [[-5.0, 10, 200, 300]]])
    np.testing.assert_array_equal(
        boxes.clip(found, tf.constant([[100.0, 50], [60, 80]])), [[[0, 0, 100, 50]], [[0, 10, 60, 80]]]
    )


@pytest.mark.parametrize("vertical", [False, True])
def test_mirroring_twice_is_nothing_and_once_moves_the_pixels_too(random, vertical):
    size = tf.constant([40.0, 60.0])
    box = tf.constant([[3.0, 7, 20, 31]])
    once = boxes.mirror(box, size, vertical)
    np.testing.assert_array_equal(boxes.mirror(once, size, vertical), box)
    picture = np.zeros((40, 60))
    picture[3:20, 7:31] = 1
    top, left, bottom, right = np.asarray(once[0], int)
    assert np.flip(picture, 0 if vertical else 1)[top:bottom, left:right].all()
    assert (bottom - top, right - left) == (17, 24)
