"""The region proposal network (Faster R-CNN, section 3.1): its head, its training targets and its proposals."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_resnet.detection import matching
from keras_resnet.detection.nms import suppress
from keras_resnet.ops import boxes as box_ops

NO_SCORE = -1e9
"""Score of boxes that must never be chosen."""


def head(channels: int, filters: int, anchors: int, dtype: Any, name: str = "rpn") -> keras.Model:
    """Build the network: a 3x3 convolution, followed by one logit and four deltas for each anchor of a cell.

    Args:
        channels: channels of the maps.
        filters: filters of the 3x3 convolution.
        anchors: anchors of a cell.
        dtype: dtype policy of the 3x3 convolution; the outputs are float32.
        name: name of the model.

    Returns:
        A model f32[B,H,W,channels] -> [f32[B,H,W,anchors], f32[B,H,W,4 * anchors]].
    """

    def convolution(filters: int, kernel: int, name: str, **options: Any) -> keras.layers.Conv2D:
        options["kernel_initializer"] = keras.initializers.RandomNormal(stddev=0.01)
        return keras.layers.Conv2D(filters, kernel, padding="same", name=f"rpn_{name}", **options)

    maps = keras.Input((None, None, channels))
    x = convolution(filters, 3, "conv", activation="relu", dtype=dtype)(maps)
    logits = convolution(anchors, 1, "objectness", dtype="float32")(x)
    deltas = convolution(4 * anchors, 1, "deltas", dtype="float32")(x)
    return keras.Model(maps, [logits, deltas], name=name)


class Proposals(NamedTuple):
    """Regions, best first: boxes f32[B,R,4], valid bool[B,R], scores f32[B,R]; padding is zero."""

    boxes: tf.Tensor
    valid: tf.Tensor
    scores: tf.Tensor


class Targets(NamedTuple):
    """The targets of a training step: deltas f32[B,N,4], positive bool[B,N], negative bool[B,N]."""

    deltas: tf.Tensor
    positive: tf.Tensor
    negative: tf.Tensor


def targets(
    anchors: tf.Tensor,
    image_size: tf.Tensor,
    gt_boxes: tf.Tensor,
    gt_valid: tf.Tensor,
    gt_crowd: tf.Tensor,
    seeds: tf.Tensor,
    *,
    batch_size_per_image: int = 256,
    positive_fraction: float = 0.5,
    iou_thresholds: tuple[float, float] = (0.3, 0.7),
    straddle_thresh: float = 0.0,
) -> Targets:
    """Sample the anchors of a training step and compute their deltas (section 3.1.2).

    Args:
        anchors: f32[N,4].
        image_size: f32[B,2], height and width inside the padded images.
        gt_boxes: f32[B,G,4].
        gt_valid: bool[B,G]; False for padding and crowds.
        gt_crowd: bool[B,G]; anchors of which more than half lies in a crowd are left out.
        seeds: i32[B,2].
        batch_size_per_image: anchors sampled of an image.
        positive_fraction: largest fraction of positive anchors among them.
        iou_thresholds: an anchor is negative if its highest IoU is below the first, and positive from the second on.
        straddle_thresh: anchors that reach over the image's border by more pixels are left out, as in the paper with 0;
            negative to keep all anchors whose center is inside.
    """
    ious = box_ops.iou(anchors[None], gt_boxes)
    index, label = matching.match(ious, gt_valid, (0.0, iou_thresholds[0]), iou_thresholds[1], allow_low_quality=True)
    in_crowd = tf.reduce_any((box_ops.coverage(anchors[None], gt_boxes) > 0.5) & gt_crowd[:, None, :], -1)
    usable = inside(anchors, image_size, straddle_thresh) & ~(in_crowd & (label != matching.POSITIVE))
    label = tf.where(usable, label, matching.IGNORED)
    max_positives = int(batch_size_per_image * positive_fraction)
    positive, negative = matching.sample(label, max_positives, batch_size_per_image, seeds)
    matched = tf.gather(gt_boxes, index, batch_dims=1)
    return Targets(box_ops.encode(matched, anchors[None]), positive, negative)


def inside(anchors: tf.Tensor, image_size: tf.Tensor, straddle_thresh: float) -> tf.Tensor:
    """Return which anchors f32[N,4] are inside images of size f32[B,2]: bool[B,N]; see `targets`."""
    if straddle_thresh < 0:
        center = 0.5 * (anchors[:, :2] + anchors[:, 2:])
        return tf.reduce_all(center[None] < image_size[:, None, :], -1)
    low = tf.reduce_all(anchors[:, :2] >= -straddle_thresh, -1)
    high = tf.reduce_all(anchors[None, :, 2:] <= image_size[:, None, :] + straddle_thresh, -1)
    return low[None] & high


def proposals(
    logits: tf.Tensor,
    deltas: tf.Tensor,
    anchors: tf.Tensor,
    image_size: tf.Tensor,
    *,
    pre_nms_topk: int,
    post_nms_topk: int,
    nms_thresh: float = 0.7,
    min_size: float = 16.0,
) -> Proposals:
    """Turn the network's output into boxes, best first (sections 3.1 and 3.3).

    Args:
        logits: f32[B,N].
        deltas: f32[B,N,4].
        anchors: f32[N,4].
        image_size: f32[B,2], height and width inside the padded images.
        pre_nms_topk: most boxes to keep before NMS, the best ones.
        post_nms_topk: number of boxes to return, with padding.
        nms_thresh: IoU above which NMS drops the weaker box.
        min_size: smallest side of a clipped box in pixels.

    Returns:
        `Proposals`, which carry no gradient; their scores are probabilities.
    """
    logits, deltas = tf.stop_gradient(logits), tf.stop_gradient(deltas)
    boxes = box_ops.clip(box_ops.decode(deltas, anchors[None]), image_size)
    sides = boxes[..., 2:] - boxes[..., :2]
    allowed = tf.reduce_all(sides >= min_size, -1) & inside(anchors, image_size, -1.0)
    scores = tf.where(allowed, logits, NO_SCORE)
    count = scores.shape[1] or tf.shape(scores)[1]
    topk = min(pre_nms_topk, count) if isinstance(count, int) else tf.minimum(pre_nms_topk, count)
    scores, index = tf.math.top_k(scores, topk)
    boxes = tf.gather(boxes, index, batch_dims=1)
    index, valid = suppress(boxes, scores, post_nms_topk, nms_thresh, NO_SCORE / 2)
    boxes, scores = tf.gather(boxes, index, batch_dims=1), tf.gather(scores, index, batch_dims=1)
    return Proposals(tf.where(valid[..., None], boxes, 0.0), valid, tf.where(valid, tf.sigmoid(scores), 0.0))
