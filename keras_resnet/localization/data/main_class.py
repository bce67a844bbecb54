"""Detection data sets as localization data sets: the main class of an image is that of its largest box."""

from __future__ import annotations

import functools

import numpy as np

from keras_resnet.detection.data.annotations import Annotation, DetectionDataset
from keras_resnet.localization.data.examples import Example, LocalizationDataset, areas


def example_of(annotation: Annotation) -> Example | None:
    """Return an annotated image with its main class and the boxes of this class; None if it has no box.

    The main class is that of the box with the largest area inside the image, of equal ones the first. Boxes of groups
    (COCO's crowds) are left out.
    """
    usable = ~annotation.crowd
    if not usable.any():
        return None
    largest = np.argmax(np.where(usable, areas(annotation.clipped_boxes()), -1))
    label = int(annotation.labels[largest])
    boxes = annotation.boxes[usable & (annotation.labels == label)]
    return Example(annotation.path, annotation.id, annotation.size, label, boxes)


def dataset_of(dataset: DetectionDataset) -> LocalizationDataset:
    """Return the images of a detection data set with their main classes."""

    @functools.cache
    def read(split: str) -> list[Example | None]:
        return [example_of(annotation) for annotation in dataset.read(split)]

    return LocalizationDataset(dataset.info, read)
