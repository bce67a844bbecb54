"""Evaluate localizers by the rules of the ILSVRC devkit: with the true class given, and with predicted classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_resnet.data.transforms import WholeImageTransform
from keras_resnet.errors import InputError
from keras_resnet.localization.data import pipeline
from keras_resnet.localization.data.examples import Example
from keras_resnet.localization.metrics import LocalizationError, center_box

Localize = Callable[[Any, tf.Tensor], tuple[Any, Any]]
"""Function from pixels u8[H,W,3] and classes i32[T] to boxes f32[T,4] in pixels and scores f32[T]."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a localizer found in an image.

    Attributes:
        index: number of the image in its split.
        classes: i64[T], the true class first, then the predicted ones that differ from it.
        boxes: f64[T,4] in pixels.
        scores: f64[T].
    """

    index: int
    classes: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    def box_of(self, label: int) -> np.ndarray:
        """Return the box of a class, f64[4]."""
        return self.boxes[self.classes.tolist().index(label)]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The errors of a split.

    Attributes:
        error: the errors, over all images.
        baseline: the errors of a box at the center of each image, with the same classes.
        predictions: of each image, in the order of the split.
    """

    error: LocalizationError
    baseline: LocalizationError
    predictions: tuple[Prediction, ...]


def evaluate(
    localize: Localize,
    examples: Sequence[Example],
    transform: WholeImageTransform,
    classes: np.ndarray | None = None,
    *,
    progress: bool = False,
) -> Evaluation:
    """Localize the true class of each image, and its predicted classes if they are given.

    Args:
        localize: such as an `inference.Localizer`.
        examples: the images of a split.
        transform: the transform of the images.
        classes: i64[N,T], predicted classes of each image, the most probable first; None to measure the error with the
            true class given alone.
        progress: whether to show a progress bar on a terminal.

    Raises:
        ValueError: there are no images, or `classes` is not for them.
    """
    if not len(examples) or (classes is not None and len(classes) != len(examples)):
        rows = "" if classes is None else f", classes for each; got classes for {len(classes)} of {len(examples)}"
        raise InputError(f"examples must be at least one image{rows}.")
    error, baseline, predictions = LocalizationError(), LocalizationError(), []
    with tqdm(total=len(examples), unit="image", disable=None if progress else True) as bar:
        for index, pixels in pipeline.evaluate(examples, transform):
            example = examples[index]
            predicted = np.zeros(0, "int64") if classes is None else np.asarray(classes[index], "int64")
            asked = np.concatenate([[example.label], predicted[predicted != example.label]])
            boxes, scores = (np.asarray(part, "float64") for part in localize(pixels, tf.constant(asked, tf.int32)))
            prediction = Prediction(index, asked, boxes, scores)
            predictions.append(prediction)
            found = np.array([prediction.box_of(label) for label in predicted.tolist()]).reshape(-1, 4)
            center = center_box(tuple(pixels.shape[:2]))
            for measure, true_box, class_boxes in (
                (error, boxes[0], found),
                (baseline, center[0], np.tile(center, (len(predicted), 1))),
            ):
                measure.update(
                    example.label,
                    example.boxes,
                    predicted,
                    class_boxes,
                    true_class_box=true_box,
                    blacklisted=example.blacklisted,
                    index=index,
                )
            bar.update()
    return Evaluation(error, baseline, tuple(predictions))
