"""Run a detector on the images of a data set: detections in the pixels of each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from keras_resnet.detection.average_precision import Detections, GroundTruth
from keras_resnet.detection.data import pipeline
from keras_resnet.detection.data.annotations import Annotation
from keras_resnet.detection.data.transforms import DetectionTransform
from keras_resnet.detection.masks import paste
from keras_resnet.ops.masks import ObjectMask


def detect(
    predict: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    annotations: Sequence[Annotation],
    transform: DetectionTransform,
    *,
    batch_size: int = 1,
    progress: bool = False,
    pyramid: Sequence[DetectionTransform] = (),
) -> list[Detections]:
    """Run a detector on images.

    Args:
        predict: function of a dictionary of images f32[B,H,W,3] and image_size f32[B,2] that returns the fields of
            `nms.PaddedDetections`, and masks, in a dictionary, such as a detector's `predict_on_batch`.
        annotations: the images of a split.
        transform: the transform of the images.
        batch_size: images in a batch.
        progress: whether to show a progress bar on a terminal.
        pyramid: transforms to further scales; see `multi_scale.detect`.

    Returns:
        The detections of each image.
    """
    detections: dict[int, Detections] = {}
    with tqdm(total=len(annotations), unit="image", disable=None if progress else True) as bar:
        for index, batches in pipeline.evaluate(annotations, transform, batch_size, pyramid):
            remaining = iter(index)
            for batch in batches:
                outputs = {key: np.asarray(value) for key, value in predict(batch).items()}
                for row, size in enumerate(np.asarray(batch["image_size"])):
                    number = next(remaining)
                    detections[number] = unpacked(outputs, row, size, annotations[number].size)
                    bar.update()
    return [detections[number] for number in range(len(annotations))]


def unpacked(
    outputs: Mapping[str, np.ndarray], row: int, image_size: Sequence[float] | np.ndarray, size: Sequence[int]
) -> Detections:
    """Return the detections of one image of a batch in its own pixels.

    Args:
        outputs: what the detector returned for the batch.
        row: number of the image in the batch.
        image_size: height and width of the resized image, in whose pixels the detector's boxes are.
        size: height and width of the image.
    """
    count = int(outputs["count"][row])
    # Multiplied first, the sides of the resized image become exactly those of the image.
    boxes = np.asarray(outputs["boxes"][row, :count], "float64") * np.tile(np.asarray(size, "float64"), 2)
    boxes /= np.tile(np.asarray(image_size, "float64"), 2)
    masks: tuple[ObjectMask, ...] | None = None
    if "masks" in outputs:
        height, width = map(int, size)
        pairs = zip(outputs["masks"][row, :count], boxes, strict=True)
        masks = tuple(ObjectMask.of_pixels(paste(mask, box, (height, width))) for mask, box in pairs)
    labels = outputs["classes"][row, :count].astype("int32") - 1
    return Detections(boxes, outputs["scores"][row, :count], labels, masks)


def ground_truth(annotations: Sequence[Annotation], masks: bool = False) -> list[GroundTruth]:
    """Return the ground truth of images in their pixels; difficult boxes and crowds are ignored.

    Args:
        annotations: the images.
        masks: whether to draw the masks; see `GroundTruth.with_all_masks` for objects that have none.
    """
    boxes = [
        GroundTruth(annotation.boxes, annotation.labels, annotation.difficult | annotation.crowd)
        for annotation in annotations
    ]
    if not masks:
        return boxes
    return [
        truth._replace(
            masks=annotation.masks and tuple(mask and mask.encoded() for mask in annotation.masks)
        ).with_all_masks(annotation.size)
        for truth, annotation in zip(boxes, annotations, strict=True)
    ]
