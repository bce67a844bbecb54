"""A detector over the pictures of a data set: detections in the pixels of each picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from keras_resnet.detection.average_precision import Detections, GroundTruth
from keras_resnet.detection.data import pipeline
from keras_resnet.detection.data.annotations import Annotation
from keras_resnet.detection.data.transforms import DetectionTransform


def detect(
    predict: Callable,
    pictures: Sequence[Annotation],
    view: DetectionTransform,
    *,
    batch_size: int = 1,
    progress: bool = False,
    pyramid: Sequence[DetectionTransform] = (),
) -> list[Detections]:
    """Run a detector on pictures.

    Args:
        predict: images f32[B,H,W,3] and image_size f32[B,2] in a dictionary -> boxes, scores, classes (from 1) and
            count as `nms.PaddedDetections` has them, in a dictionary; such as a detector's `predict_on_batch`.
        pictures: of a split.
        view: how to show them.
        batch_size: images in a batch.
        progress: whether to show a bar on a terminal.
        pyramid: further views; see `testing.detect`.

    Returns:
        What was found in each picture, in their order.
    """
    found: list[Detections | None] = [None] * len(pictures)
    with tqdm(total=len(pictures), unit="image", disable=None if progress else True) as bar:
        for index, batches in pipeline.evaluate(pictures, view, batch_size, pyramid):
            done = 0
            for batch in batches:
                output = {key: np.asarray(value) for key, value in predict(batch).items()}
                for row, size in enumerate(np.asarray(batch["image_size"])):
                    picture = pictures[index[done]]
                    found[index[done]] = unpacked(output, row, np.array(picture.size) / size)
                    done += 1
                    bar.update()
    return found


def unpacked(output: dict[str, np.ndarray], row: int, scale) -> Detections:
    """One image's detections out of a batch, with its boxes times `scale` (y, x)."""
    count = int(output["count"][row])
    boxes_there = output["boxes"][row, :count] * np.array([*scale, *scale], "float32")
    return Detections(boxes_there, output["scores"][row, :count], output["classes"][row, :count].astype("int32") - 1)


def truths(pictures: Sequence[Annotation]) -> list[GroundTruth]:
    """What is in the pictures, in their pixels."""
    return [
        GroundTruth(p.boxes * np.array([*p.size, *p.size], "float32"), p.labels, p.difficult | p.crowd)
        for p in pictures
    ]
