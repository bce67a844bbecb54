"""Testing with several scales and several networks (appendices A and B of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from keras_resnet.detection import nms, roi
from keras_resnet.detection.faster_rcnn import FasterRCNN
from keras_resnet.errors import check_choice
from keras_resnet.ops import boxes

CANONICAL_AREA = 224.0**2
"""Area in px^2 at which a region is looked at best, that of the backbone's own images (Ren et al., 2015b)."""


def detect(models: Sequence[FasterRCNN], inputs: Mapping[str, object], *, merge: str = "after") -> dict[str, tf.Tensor]:
    """Detect with one network or an ensemble, at one scale or several.

    The networks propose regions at the first scale. The union of the regions is classified by each, at the two adjacent
    scales of the pyramid where a region's area comes closest to 224^2, whose features are merged by an element-wise
    maximum. Probabilities and boxes are averaged over the networks. Refinement, suppression and the rest are as the
    first network has them.

    Args:
        models: of the same classes.
        inputs: images f32[B,H,W,3] and image_size f32[B,2] of the first scale, and, for several scales, `pyramid`: a
            sequence of two or more such dictionaries with the same images, growing.
        merge: whether the maximum is taken of the maps "before" conv5_x, or of the vectors "after" it; the paper leaves
            this open.

    Returns:
        boxes f32[B,D,4] in pixels of the first scale, scores f32[B,D], classes i32[B,D] and count i32[B].
    """
    check_choice("merge", merge, ("before", "after"))
    image_size, pyramid = inputs["image_size"], inputs.get("pyramid", ())
    maps = [model.trunk(inputs["images"], training=False) for model in models]
    levels = [[model.trunk(level["images"], training=False) for level in pyramid] for model in models]
    factors = [level["image_size"] / image_size for level in pyramid]
    regions, valid = _union([model.propose(own, image_size) for model, own in zip(models, maps, strict=True)])

    def classify(regions):
        results = []
        for model, own, finer in zip(models, maps, levels, strict=True):
            vectors = model.all_vectors(own, regions) if not finer else _merged(model, finer, factors, regions, merge)
            vectors = model.with_context(vectors, own, image_size)
            results.append(model.decide(vectors, regions, image_size))
        found, probabilities = zip(*results, strict=True)
        return tf.add_n(found) / len(models), tf.add_n(probabilities) / len(models)

    found, probabilities = classify(regions)
    if models[0].refine:
        again = classify(models[0].best_boxes(found, probabilities))
        found, probabilities = tf.concat([found, again[0]], 1), tf.concat([probabilities, again[1]], 1)
        valid = tf.concat([valid, valid], 1)
    return models[0].select(found, probabilities, valid)


def _union(proposals) -> tuple[tf.Tensor, tf.Tensor]:
    """The regions of all networks, suppressed together and as many as they are: f32[B,R,4], bool[B,R]."""
    if len(proposals) == 1:
        return proposals[0].boxes, proposals[0].valid
    found, valid, scores = (tf.concat(parts, 1) for parts in zip(*proposals, strict=True))
    scores, order = tf.math.top_k(tf.where(valid, scores, -1.0), scores.shape[1])
    found = tf.gather(found, order, batch_dims=1)
    index, valid = nms.suppress(found, scores, scores.shape[1], 0.7, -0.5)
    return tf.where(valid[..., None], tf.gather(found, index, batch_dims=1), 0.0), valid


def _merged(model: FasterRCNN, levels, factors, regions: tf.Tensor, merge: str) -> tf.Tensor:
    """Vectors f32[B,R,F] of regions from the two levels that suit each best."""
    lower = lower_level(regions, factors)
    parts = []
    for start in range(0, regions.shape[1], model.region_chunk):
        end = start + model.region_chunk
        some, level = regions[:, start:end], lower[:, start:end]
        pooled = [
            roi.POOLINGS[model.roi_pooling](
                maps, some * tf.tile(factor, [1, 2])[:, None], model.pool_size, model.stride
            )
            for maps, factor in zip(levels, factors, strict=True)
        ]
        pooled = tf.stack(pooled, 2)
        first, second = (tf.gather(pooled, level + more, axis=2, batch_dims=2) for more in (0, 1))
        if merge == "before":
            parts.append(model.pooled_vectors(tf.maximum(first, second)))
        else:
            parts.append(tf.maximum(model.pooled_vectors(first), model.pooled_vectors(second)))
    return tf.concat(parts, 1)


def lower_level(regions: tf.Tensor, factors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return the lower one of the two adjacent levels whose areas of a region lie closest around 224^2.

    Args:
        regions: f32[B,R,4].
        factors: f32[B,2] of each level, height and width over those that the regions are in.

    Returns:
        i32[B,R], from 0 to the number of levels less 2.
    """
    growth = tf.stack([tf.math.log(tf.reduce_prod(factor, -1)) for factor in factors], -1)
    logs = tf.math.log(tf.maximum(boxes.area(regions), 1.0))[..., None] + growth[:, None]
    distance = tf.abs(logs - tf.math.log(CANONICAL_AREA))
    return tf.argmin(distance[..., :-1] + distance[..., 1:], -1, output_type=tf.int32)
