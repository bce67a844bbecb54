"""The region proposal network (Faster R-CNN, section 3.1): what it learns from, and its proposals."""

from __future__ import annotations

from typing import NamedTuple

import keras
import tensorflow as tf

from keras_resnet.detection import matching
from keras_resnet.detection.nms import suppress
from keras_resnet.ops import boxes

NO_SCORE = -1e9
"""Score of what must never be chosen."""


def head(channels: int, filters: int, anchors: int, dtype, name: str = "rpn") -> keras.Model:
    """Build the network: a 3x3 convolution, and on it one logit and four deltas for each anchor of a cell.

    Args:
        channels: channels of the maps.
        filters: filters of the 3x3 convolution.
        anchors: anchors of a cell.
        dtype: dtype policy of the 3x3 convolution; the outputs are float32.

    Returns:
        A model f32[B,H,W,channels] -> [f32[B,H,W,anchors], f32[B,H,W,4 * anchors]].
    """

    def convolution(filters, kernel, name, **options):
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
    """What a step of the proposal network learns: deltas f32[B,N,4], positive bool[B,N], negative bool[B,N]."""

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
    total: int = 256,
    positive_share: float = 0.5,
    overlaps: tuple[float, float] = (0.3, 0.7),
    straddle: float = 0.0,
) -> Targets:
    """Choose the anchors that a training step looks at, and their deltas (section 3.1.2).

    Args:
        anchors: f32[N,4].
        image_size: f32[B,2], height and width inside the padded images.
        gt_boxes: f32[B,G,4].
        gt_valid: bool[B,G]; False for padding and crowds.
        gt_crowd: bool[B,G]; anchors that lie in a crowd by more than half are left out.
        seeds: i32[B,2].
        total: anchors sampled of an image.
        positive_share: most positive ones among them.
        overlaps: below the first an anchor is negative, from the second on positive.
        straddle: anchors that reach over the image's border by more pixels are left out, as the paper does with 0;
            negative to keep all whose centre is inside.
    """
    overlap = boxes.iou(anchors[None], gt_boxes)
    index, label = matching.match(overlap, gt_valid, (0.0, overlaps[0]), overlaps[1], best_too=True)
    in_crowd = tf.reduce_any((boxes.coverage(anchors[None], gt_boxes) > 0.5) & gt_crowd[:, None, :], -1)
    usable = inside(anchors, image_size, straddle) & ~(in_crowd & (label != matching.POSITIVE))
    label = tf.where(usable, label, matching.IGNORED)
    positive, negative = matching.sample(label, int(total * positive_share), total, seeds)
    matched = tf.gather(gt_boxes, index, batch_dims=1)
    return Targets(boxes.encode(matched, anchors[None]), positive, negative)


def inside(anchors: tf.Tensor, image_size: tf.Tensor, straddle: float) -> tf.Tensor:
    """Whether anchors f32[N,4] are inside images f32[B,2], but for `straddle` pixels: bool[B,N]; see `targets`."""
    if straddle < 0:
        center = 0.5 * (anchors[:, :2] + anchors[:, 2:])
        return tf.reduce_all(center[None] < image_size[:, None, :], -1)
    low = tf.reduce_all(anchors[:, :2] >= -straddle, -1)
    high = tf.reduce_all(anchors[None, :, 2:] <= image_size[:, None, :] + straddle, -1)
    return low[None] & high


def proposals(
    logits: tf.Tensor,
    deltas: tf.Tensor,
    anchors: tf.Tensor,
    image_size: tf.Tensor,
    *,
    before: int,
    after: int,
    overlap: float = 0.7,
    smallest: float = 16.0,
) -> Proposals:
    """Turn the network's output into boxes, best first (section 3.1 and 3.3).

    Args:
        logits: f32[B,N].
        deltas: f32[B,N,4].
        anchors: f32[N,4].
        image_size: f32[B,2].
        before: how many of the best are kept before suppression.
        after: how many boxes come out.
        overlap: intersection over union above which the weaker box is suppressed.
        smallest: smallest side in pixels.

    Returns:
        `Proposals`, which carry no gradient.
    """
    logits, deltas = tf.stop_gradient(logits), tf.stop_gradient(deltas)
    found = boxes.clip(boxes.decode(deltas, anchors[None]), image_size)
    sides = found[..., 2:] - found[..., :2]
    good = tf.reduce_all(sides >= smallest, -1) & inside(anchors, image_size, -1.0)
    scores = tf.where(good, logits, NO_SCORE)
    count = scores.shape[1] or tf.shape(scores)[1]
    before = min(before, count) if isinstance(count, int) else tf.minimum(before, count)
    scores, index = tf.math.top_k(scores, before)
    found = tf.gather(found, index, batch_dims=1)
    index, valid = suppress(found, scores, after, overlap, NO_SCORE / 2)
    found, scores = tf.gather(found, index, batch_dims=1), tf.gather(scores, index, batch_dims=1)
    return Proposals(tf.where(valid[..., None], found, 0.0), valid, tf.where(valid, tf.sigmoid(scores), 0.0))
