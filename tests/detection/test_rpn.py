"""The region proposal network: targets and proposals by hand, and against torchvision's rules in NumPy."""

import math

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.detection import anchors, rpn

ALL = 10_000
"""A batch size that samples every candidate."""


def iou(first, second):
    height = min(first[2], second[2]) - max(first[0], second[0])
    width = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(height, 0) * max(width, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def encoded(box, anchor):
    """torchvision's `encode_boxes` with weights of 1: (dy, dx, dh, dw)."""
    height, width = anchor[2] - anchor[0], anchor[3] - anchor[1]
    box_height, box_width = box[2] - box[0], box[3] - box[1]
    return [
        (box[0] + 0.5 * box_height - anchor[0] - 0.5 * height) / height,
        (box[1] + 0.5 * box_width - anchor[1] - 0.5 * width) / width,
        math.log(box_height / height),
        math.log(box_width / width),
    ]


def decoded(delta, anchor):
    """torchvision's `decode_single` with weights of 1, which bounds size ratios by 1000 / 16."""
    height, width = anchor[2] - anchor[0], anchor[3] - anchor[1]
    y, x = anchor[0] + 0.5 * height + delta[0] * height, anchor[1] + 0.5 * width + delta[1] * width
    height *= math.exp(min(delta[2], math.log(1000 / 16)))
    width *= math.exp(min(delta[3], math.log(1000 / 16)))
    return [y - 0.5 * height, x - 0.5 * width, y + 0.5 * height, x + 0.5 * width]


def is_usable(anchor, size, straddle_thresh):
    if straddle_thresh < 0:  # only the center must be inside
        return (anchor[0] + anchor[2]) / 2 < size[0] and (anchor[1] + anchor[3]) / 2 < size[1]
    return min(anchor[:2]) >= -straddle_thresh and all(anchor[i + 2] <= size[i] + straddle_thresh for i in (0, 1))


def expected_targets(grid, size, gt_boxes, crowds, straddle_thresh):
    """Anchor -> its matched box if it is positive, or None if it is negative; other anchors are left out.

    This is torchvision's `Matcher(0.7, 0.3, allow_low_quality_matches=True)`; border and crowds follow Detectron.
    """
    ious = np.array([[iou(anchor, box) for box in gt_boxes] for anchor in grid])
    targets = {}
    for number, anchor in enumerate(grid):
        best = int(np.argmax(ious[number]))
        is_best_of_a_box = any(ious[number, box] == ious[:, box].max() > 0 for box in range(len(gt_boxes)))
        positive = ious[number, best] >= 0.7 or is_best_of_a_box
        area = (anchor[2] - anchor[0]) * (anchor[3] - anchor[1])
        in_crowd = False
        for crowd in crowds:
            sides = np.minimum(anchor[2:], crowd[2:]) - np.maximum(anchor[:2], crowd[:2])
            in_crowd |= np.prod(np.maximum(sides, 0)) / area > 0.5
        if not is_usable(anchor, size, straddle_thresh):
            continue
        if positive:
            targets[number] = gt_boxes[best]
        elif ious[number, best] < 0.3 and not in_crowd:
            targets[number] = None
    return targets


@pytest.fixture
def grid():
    """The anchors of 8x8 cells: squares and rectangles, some across the border of a 128x128 image."""
    return anchors.grid_anchors(8, 8, 16, anchors.cell_anchors((32.0, 64.0), (0.5, 1.0, 2.0)))


SIZES = np.float32([[128, 128], [96, 112]])
GT_BOXES = np.float32(
    [
        [[10, 20, 60, 75], [70, 64, 120, 128], [3, 90, 40, 120], [0, 0, 0, 0]],
        [[30, 30, 94, 94], [0, 0, 50, 40], [40, 60, 75, 100], [0, 0, 0, 0]],
    ]
)
CROWD = np.array([[False, False, True, False], [False, True, False, False]])
VALID = (GT_BOXES.sum(-1) > 0) & ~CROWD
SEEDS = tf.constant([[1, 2], [3, 4]])


def targets(grid, **options):
    arguments = (SIZES, GT_BOXES, VALID, CROWD)
    return rpn.targets(grid, *map(tf.constant, arguments), SEEDS, **options)


@pytest.mark.parametrize("straddle_thresh", [0.0, 10.0, -1.0])
def test_targets_follow_torchvisions_rules(grid, straddle_thresh):
    result = targets(grid, batch_size_per_image=ALL, straddle_thresh=straddle_thresh)
    boxes = grid.numpy()
    for image in range(2):
        expected = expected_targets(
            boxes, SIZES[image], GT_BOXES[image][VALID[image]], GT_BOXES[image][CROWD[image]], straddle_thresh
        )
        positives = {number: box for number, box in expected.items() if box is not None}
        assert len(positives) >= 2
        assert np.flatnonzero(result.positive[image]).tolist() == sorted(positives)
        assert np.flatnonzero(result.negative[image]).tolist() == sorted(set(expected) - set(positives))
        for number, box in positives.items():
            np.testing.assert_allclose(result.deltas[image, number], encoded(box, boxes[number]), atol=1e-6)


def test_targets_by_hand():
    """IoU 1 is positive, 0.6 neither, 0.2 negative, and the best of a box with IoU 0.5 is positive."""
    boxes = tf.constant([[0.0, 0, 10, 10], [0, 0, 6, 10], [0, 0, 2, 10], [50, 50, 60, 60], [50, 50, 60, 54]])
    gt_boxes = tf.constant([[[0.0, 0, 10, 10], [50, 50, 60, 70], [0, 0, 0, 0]]])
    valid = tf.constant([[True, True, False]])
    result = rpn.targets(
        boxes, tf.constant([[100.0, 100.0]]), gt_boxes, valid, tf.zeros([1, 3], tf.bool), tf.constant([[0, 0]])
    )
    assert result.positive.numpy().tolist() == [[True, False, False, True, False]]
    assert result.negative.numpy().tolist() == [[False, False, True, False, True]]
    np.testing.assert_allclose(result.deltas[0, 0], [0, 0, 0, 0], atol=1e-6)
    # The box is twice as wide and its center half a width to the right.
    np.testing.assert_allclose(result.deltas[0, 3], [0, 0.5, 0, math.log(2)], atol=1e-6)


def test_targets_are_sampled_up_to_the_batch_size(grid):
    every = targets(grid, batch_size_per_image=ALL, straddle_thresh=-1.0)
    result = targets(grid, batch_size_per_image=8, positive_fraction=0.25, straddle_thresh=-1.0)
    again = targets(grid, batch_size_per_image=8, positive_fraction=0.25, straddle_thresh=-1.0)
    for image in range(2):
        assert np.sum(result.positive[image]) == min(2, np.sum(every.positive[image]))
        assert np.sum(result.positive[image]) + np.sum(result.negative[image]) == 8
        assert not np.any(result.positive[image] & ~every.positive[image])
        assert not np.any(result.negative[image] & ~every.negative[image])
    for first, second in zip(result, again, strict=True):
        np.testing.assert_array_equal(first, second)


def expected_proposals(logits, deltas, grid, size, pre_nms_topk, post_nms_topk, min_size):
    """(box, score) of each proposal of an image, best first.

    torchvision's `filter_proposals`, except that boxes that are too small, or whose anchor's center is in the padding,
    are dropped before the best ones are chosen.
    """
    candidates = []
    for logit, delta, anchor in zip(logits, deltas, grid, strict=True):
        box = np.clip(decoded(delta, anchor), 0, [*size, *size])
        if min(box[2:] - box[:2]) >= min_size and is_usable(anchor, size, -1):
            candidates.append((logit, box))
    candidates = sorted(candidates, key=lambda candidate: -candidate[0])[:pre_nms_topk]
    kept = []
    for logit, box in candidates:
        if all(iou(box, other) <= 0.7 for other, _ in kept):
            kept.append((box, 1 / (1 + math.exp(-logit))))
    return kept[:post_nms_topk]


@pytest.mark.parametrize(
    ("pre_nms_topk", "post_nms_topk"), [(ALL, 400), (100, 30), (20, 40)], ids=["all", "few", "padded"]
)
def test_proposals_follow_torchvisions_rules(grid, random, pre_nms_topk, post_nms_topk):
    logits = random.normal(0, 2, (2, len(grid))).astype("float32")
    deltas = random.normal(0, 0.3, (2, len(grid), 4)).astype("float32")
    deltas[:, ::7, 2:] = 9.0  # beyond the bound of the size ratio
    result = rpn.proposals(
        *map(tf.constant, (logits, deltas)),
        grid,
        tf.constant(SIZES),
        pre_nms_topk=pre_nms_topk,
        post_nms_topk=post_nms_topk,
        min_size=20.0,
    )
    assert result.boxes.shape == (2, post_nms_topk, 4)
    for image in range(2):
        expected = expected_proposals(
            logits[image], deltas[image], grid.numpy(), SIZES[image], pre_nms_topk, post_nms_topk, 20.0
        )
        count = len(expected)
        assert result.valid[image].numpy().tolist() == [True] * count + [False] * (post_nms_topk - count)
        np.testing.assert_allclose(result.boxes[image, :count], [box for box, _ in expected], atol=1e-3)
        np.testing.assert_allclose(result.scores[image, :count], [score for _, score in expected], rtol=1e-5)
        assert not result.boxes[image, count:].numpy().any()
        assert not result.scores[image, count:].numpy().any()


def test_proposals_by_hand():
    """Of two anchors with IoU 0.8 the better one stays; a box of 10 pixels is too small, and an anchor is outside."""
    boxes = tf.constant([[0.0, 0, 40, 40], [0, 0, 32, 40], [50, 50, 60, 90], [90, 90, 130, 130], [60, 0, 100, 40]])
    result = rpn.proposals(
        tf.constant([[0.0, math.log(3), 5.0, 5.0, -1.0]]),
        tf.constant([[[0.0] * 4] * 4 + [[0.25, 0, 0, 0]]]),
        boxes,
        tf.constant([[100.0, 100.0]]),
        pre_nms_topk=5,
        post_nms_topk=3,
    )
    # The last one moves down by a quarter of its height and is clipped at 100.
    np.testing.assert_allclose(result.boxes, [[[0, 0, 32, 40], [70, 0, 100, 40], [0, 0, 0, 0]]], atol=1e-5)
    np.testing.assert_allclose(result.scores, [[0.75, 1 / (1 + math.e), 0]], rtol=1e-6)
    assert result.valid.numpy().tolist() == [[True, True, False]]


def test_proposals_carry_no_gradient(grid):
    logits, deltas = tf.Variable(tf.ones([1, len(grid)])), tf.Variable(tf.zeros([1, len(grid), 4]))
    with tf.GradientTape() as tape:
        result = rpn.proposals(logits, deltas, grid, tf.constant(SIZES[:1]), pre_nms_topk=50, post_nms_topk=10)
        total = tf.reduce_sum(result.boxes) + tf.reduce_sum(result.scores)
    assert tape.gradient(total, [logits, deltas]) == [None, None]


def test_head_has_one_logit_and_four_deltas_for_each_anchor():
    head = rpn.head(channels=5, filters=16, anchors=6, dtype="mixed_bfloat16")
    logits, deltas = head(tf.ones([2, 3, 4, 5]))
    assert (logits.shape, deltas.shape) == ((2, 3, 4, 6), (2, 3, 4, 24))
    assert logits.dtype == deltas.dtype == tf.float32
    assert [layer.name for layer in head.layers if layer.weights] == ["rpn_conv", "rpn_objectness", "rpn_deltas"]
