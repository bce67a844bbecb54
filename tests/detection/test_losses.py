"""The losses of Faster R-CNN: worked by hand, and against the formulas written out in NumPy."""

import math

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.detection import losses


def smooth_l1(error, beta):
    """Fast R-CNN's equation 3, with the width `beta` of torchvision's `smooth_l1_loss`."""
    return 0.5 * error**2 / beta if abs(error) < beta else abs(error) - 0.5 * beta


def softmax_loss(logits, label):
    return math.log(sum(math.exp(logit) for logit in logits)) - logits[label]


def test_smooth_l1_by_hand():
    errors = tf.constant([0.0, 0.5, -0.5, 1.0, -2.0])
    np.testing.assert_allclose(losses.smooth_l1(errors, 1.0), [0, 0.125, 0.125, 0.5, 1.5])
    np.testing.assert_allclose(losses.smooth_l1(errors, 0.5), [0, 0.25, 0.25, 0.75, 1.75])


def test_region_proposal_by_hand():
    class_loss, box_loss = losses.region_proposal(
        logits=tf.constant([[0.0, 2.0, 5.0]]),
        deltas=tf.constant([[[0.05, 0.2, 0.0, 1.0], [9.0] * 4, [9.0] * 4]]),
        targets=tf.constant([[[0.0, 0.0, 0.0, 1.0], [0.0] * 4, [0.0] * 4]]),
        positive=tf.constant([[True, False, False]]),
        negative=tf.constant([[False, True, False]]),  # the third anchor is not sampled
        batch_size_per_image=4,
    )
    # -log sigmoid(0) = log 2 and -log(1 - sigmoid(2)) = log(1 + e^2), over 4 and not over the 2 sampled.
    assert float(class_loss) == pytest.approx((math.log(2) + math.log(1 + math.exp(2))) / 4, rel=1e-6)
    # 0.05 is below 1/9: 0.5 * 0.05^2 * 9; 0.2 is above: 0.2 - 0.5 / 9.
    assert float(box_loss) == pytest.approx((0.01125 + 0.2 - 0.5 / 9) / 4, rel=1e-6)


def test_region_proposal_is_the_formula(random):
    logits, deltas, targets = (random.normal(size=(3, 20, *more)).astype("float32") for more in ((), (4,), (4,)))
    positive = random.random((3, 20)) < 0.3
    negative = ~positive & (random.random((3, 20)) < 0.5)
    class_loss = box_loss = 0.0
    for image, anchor in np.ndindex(3, 20):
        probability = 1 / (1 + math.exp(-logits[image, anchor]))
        if positive[image, anchor]:
            class_loss -= math.log(probability)
            box_loss += sum(smooth_l1(error, 1 / 9) for error in deltas[image, anchor] - targets[image, anchor])
        elif negative[image, anchor]:
            class_loss -= math.log(1 - probability)
    result = losses.region_proposal(*map(tf.constant, (logits, deltas, targets, positive, negative)), 16)
    np.testing.assert_allclose(result, [class_loss / 16 / 3, box_loss / 16 / 3], rtol=1e-5)


def test_detector_by_hand():
    class_loss, box_loss = losses.detector(
        logits=tf.constant([[[0.0, 0.0, 0.0], [0.0, 0.0, math.log(2)], [9.0, 0.0, 0.0]]]),
        deltas=tf.constant([[[[7.0] * 4] * 2, [[7.0] * 4, [0.5, 0.0, 0.0, -2.0]], [[7.0] * 4] * 2]]),
        labels=tf.constant([[0, 2, 1]]),
        targets=tf.zeros([1, 3, 4]),
        sampled=tf.constant([[True, True, False]]),
    )
    # A background region with probability 1/3, and one of class 2 with probability 1/2; the third is padding.
    assert float(class_loss) == pytest.approx((math.log(3) + math.log(2)) / 2, rel=1e-6)
    # Only the deltas of class 2: 0.5 * 0.5^2 and 2 - 0.5.
    assert float(box_loss) == pytest.approx((0.125 + 1.5) / 2, rel=1e-6)


def test_detector_is_the_formula(random):
    logits = random.normal(size=(3, 20, 5)).astype("float32")
    deltas = random.normal(0, 2, size=(3, 20, 4, 4)).astype("float32")
    targets = random.normal(size=(3, 20, 4)).astype("float32")
    labels = random.integers(0, 5, (3, 20)).astype("int32")
    sampled = random.random((3, 20)) < 0.6
    class_losses, box_losses = [], []
    for image in range(3):
        regions = np.flatnonzero(sampled[image])
        class_losses.append(sum(softmax_loss(logits[image, r], labels[image, r]) for r in regions) / len(regions))
        errors = [deltas[image, r, labels[image, r] - 1] - targets[image, r] for r in regions if labels[image, r]]
        box_losses.append(sum(smooth_l1(error, 1.0) for error in np.ravel(errors)) / len(regions))
    result = losses.detector(*map(tf.constant, (logits, deltas, labels, targets, sampled)))
    np.testing.assert_allclose(result, [np.mean(class_losses), np.mean(box_losses)], rtol=1e-5)


def test_without_samples_the_losses_are_zero():
    no, zeros = tf.zeros([1, 3], tf.bool), tf.zeros([1, 3, 4])
    assert [float(loss) for loss in losses.region_proposal(tf.ones([1, 3]), zeros, zeros, no, no, 8)] == [0, 0]
    labels = tf.zeros([1, 3], tf.int32)
    result = losses.detector(tf.ones([1, 3, 3]), tf.ones([1, 3, 2, 4]), labels, zeros, no)
    assert [float(loss) for loss in result] == [0, 0]


def test_targets_of_unmatched_boxes_do_not_reach_the_gradient():
    deltas = tf.Variable(tf.ones([1, 2, 4]))
    targets = tf.constant([[[0.0] * 4, [np.inf] * 4]])
    positive, negative = tf.constant([[True, False]]), tf.constant([[False, True]])
    with tf.GradientTape() as tape:
        _, loss = losses.region_proposal(tf.zeros([1, 2]), deltas, targets, positive, negative, 2)
    np.testing.assert_array_equal(tape.gradient(loss, deltas), [[[0.5] * 4, [0.0] * 4]])
    class_deltas = tf.Variable(tf.ones([1, 2, 1, 4]))
    with tf.GradientTape() as tape:
        labels, sampled = tf.constant([[1, 0]]), tf.constant([[True, True]])
        _, loss = losses.detector(tf.zeros([1, 2, 2]), class_deltas, labels, targets, sampled)
    np.testing.assert_array_equal(tape.gradient(loss, class_deltas), [[[[0.5] * 4], [[0.0] * 4]]])
