"""Detection at several scales and with several networks (appendices A and B of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_resnet.detection import nms, rpn
from keras_resnet.detection.faster_rcnn import FasterRCNN
from keras_resnet.errors import check_choice
from keras_resnet.ops import boxes as box_ops

CANONICAL_AREA = 224.0**2
"""Preferred area of a region in px^2: that of the backbone's training images (Ren et al., 2015b)."""


def detect(models: Sequence[FasterRCNN], inputs: Mapping[str, Any], *, merge: str = "after") -> dict[str, tf.Tensor]:
    """Detect with one network or an ensemble, at one scale or several.

    Each network proposes regions at the first scale. The union of the regions is classified by each network, at the two
    adjacent scales of the pyramid where the area of a region is closest to 224^2; the features of the two are merged by
    an elementwise maximum. Probabilities and boxes are averaged over the networks. Refinement and NMS follow the
    options of the first network. The masks of the detections, if all networks have them, are averages at the first
    scale.

    Args:
        models: detectors of the same classes.
        inputs: images f32[B,H,W,3] and image_size f32[B,2] of the first scale and, for several scales, `pyramid`: two
            or more such dictionaries of the same images, in increasing size.
        merge: whether to take the maximum of the maps "before" conv5_x, or of the vectors "after" it; the paper leaves
            this open.

    Returns:
        boxes f32[B,D,4] in pixels of the first scale, scores f32[B,D], classes i32[B,D] and count i32[B]; with masks
        also masks f32[B,D,M,M].
    """
    check_choice("merge", merge, ("before", "after"))
    image_size, pyramid = inputs["image_size"], inputs.get("pyramid", ())
    features = [model.trunk(inputs["images"], training=False) for model in models]
    pyramids = [[model.trunk(level["images"], training=False) for level in pyramid] for model in models]
    factors = [level["image_size"] / image_size for level in pyramid]
    regions, valid = _union([model.propose(maps, image_size) for model, maps in zip(models, features, strict=True)])

    def classify(regions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        results = []
        for model, maps, levels in zip(models, features, pyramids, strict=True):
            if levels:
                vectors = _merged_vectors(model, levels, factors, regions, merge)
            else:
                vectors = model.all_vectors(maps, regions)
            vectors = model.with_context(vectors, maps, image_size)
            results.append(model.decide(vectors, regions, image_size))
        pred_boxes, probabilities = zip(*results, strict=True)
        return tf.add_n(pred_boxes) / len(models), tf.add_n(probabilities) / len(models)

    pred_boxes, probabilities = classify(regions)
    if models[0].config.refine:
        refined_boxes, refined_probabilities = classify(models[0].best_boxes(pred_boxes, probabilities))
        pred_boxes = tf.concat([pred_boxes, refined_boxes], 1)
        probabilities = tf.concat([probabilities, refined_probabilities], 1)
        valid = tf.concat([valid, valid], 1)
    detections = models[0].select(pred_boxes, probabilities, valid)
    if all(model.config.masks for model in models):
        pairs = zip(models, features, strict=True)
        of_models = [model.mask_probabilities(maps, detections) for model, maps in pairs]
        detections["masks"] = tf.add_n(of_models) / len(models)
    return detections


def _union(proposals: Sequence[rpn.Proposals]) -> tuple[tf.Tensor, tf.Tensor]:
    """The regions of all networks after joint NMS, padded to their number: f32[B,R,4], bool[B,R]."""
    if len(proposals) == 1:
        return proposals[0].boxes, proposals[0].valid
    boxes, valid, scores = (tf.concat(parts, 1) for parts in zip(*proposals, strict=True))
    scores, order = tf.math.top_k(tf.where(valid, scores, -1.0), scores.shape[1])
    boxes = tf.gather(boxes, order, batch_dims=1)
    index, valid = nms.suppress(boxes, scores, scores.shape[1], 0.7, -0.5)
    return tf.where(valid[..., None], tf.gather(boxes, index, batch_dims=1), 0.0), valid


def _merged_vectors(
    model: FasterRCNN, levels: Sequence[tf.Tensor], factors: Sequence[tf.Tensor], regions: tf.Tensor, merge: str
) -> tf.Tensor:
    """Vectors f32[B,R,F] of regions from the two levels that suit each region best."""
    lower = lower_level(regions, factors)
    chunks = []
    for start in range(0, regions.shape[1], model.config.region_chunk):
        end = start + model.config.region_chunk
        some, level = regions[:, start:end], lower[:, start:end]
        pooled = [
            model.pool(maps, some * tf.tile(factor, [1, 2])[:, None])
            for maps, factor in zip(levels, factors, strict=True)
        ]
        pooled = tf.stack(pooled, 2)
        first, second = (tf.gather(pooled, level + offset, axis=2, batch_dims=2) for offset in (0, 1))
        if merge == "before":
            chunks.append(model.pooled_vectors(tf.maximum(first, second)))
        else:
            chunks.append(tf.maximum(model.pooled_vectors(first), model.pooled_vectors(second)))
    return tf.concat(chunks, 1)


def lower_level(regions: tf.Tensor, factors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return the lower of the two adjacent levels at which the area of a region is closest to 224^2.

    Args:
        regions: f32[B,R,4].
        factors: f32[B,2] of each level: its height and width over those that the regions refer to.

    Returns:
        i32[B,R], from 0 to the number of levels minus 2.
    """
    growth = tf.stack([tf.math.log(tf.reduce_prod(factor, -1)) for factor in factors], -1)
    logs = tf.math.log(tf.maximum(box_ops.area(regions), 1.0))[..., None] + growth[:, None]
    distance = tf.abs(logs - tf.math.log(CANONICAL_AREA))
    return tf.argmin(distance[..., :-1] + distance[..., 1:], -1, output_type=tf.int32)
