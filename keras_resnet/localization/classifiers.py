"""The classes that classifiers predict for images, for which the localizer then finds boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.errors import InputError
from keras_resnet.evaluation import scores
from keras_resnet.models.predictions import imagenet_classes


class Classifier(Protocol):
    """A trained classifier, such as a run or published weights."""

    @property
    def dataset_info(self) -> Any:
        """The names of its classes, `class_names`."""

    def photo_transform(self) -> Any:
        """Return the test transform of photos of any size."""

    def load(self, classifier_activation: str | None = "softmax") -> keras.Model:
        """Build the network and load its weights: f32[B,H,W,3] normalized -> f32[B,K]."""


class Ensemble:
    """Classifiers whose probabilities are averaged; a single one is allowed.

    Args:
        classifiers: trained classifiers of the same classes.
        class_names: the classes of the localizer, whose numbers are returned.

    Raises:
        ValueError: there is no classifier, or it has a class that the localizer does not have.
    """

    def __init__(self, classifiers: Sequence[Classifier], class_names: Sequence[str]):
        if not classifiers:
            raise InputError("classifiers must be at least one trained classifier; got none.")
        maps = [class_map(classifier.dataset_info.class_names, class_names) for classifier in classifiers]
        self.members = [
            (classifier.load(), classifier.photo_transform(), numbers)
            for classifier, numbers in zip(classifiers, maps, strict=True)
        ]
        self.classes = len(class_names)

    def probabilities(self, pixels: tf.Tensor) -> np.ndarray:
        """Return the probabilities of the localizer's classes for an image u8[H,W,3] of any size: f64[K]."""
        total = np.zeros(self.classes)
        for model, transform, numbers in self.members:
            values = model.predict_on_batch(transform.batch(pixels[None]))
            if not scores.are_probabilities(values):
                raise InputError(f"classifier {model.name!r} must return probabilities; it does not.")
            total[numbers] += values[0]
        return total / len(self.members)

    def top(self, images: Iterable[tf.Tensor], count: int = 5) -> tuple[np.ndarray, np.ndarray]:
        """Return the most probable classes of images, best first.

        Args:
            images: images u8[H,W,3].
            count: number of classes; all if there are fewer.

        Returns:
            (classes i64[N,T], probabilities f64[N,T]).
        """
        rows = np.array([self.probabilities(pixels) for pixels in images]).reshape(-1, self.classes)
        order = np.argsort(-rows, axis=-1, kind="stable")[:, :count]
        return order, np.take_along_axis(rows, order, -1)


def class_map(names: Sequence[str], target: Sequence[str]) -> np.ndarray:
    """Return the number in `target` of each class in `names`, i64[K]; WordNet ids and ImageNet's names are the same.

    Raises:
        ValueError: a class is not in `target`.
    """
    numbers = {name: number for number, name in enumerate(target)}
    if not set(names) <= numbers.keys():
        ids = [wnid for wnid, _ in imagenet_classes()]
        imagenet = tuple(name for _, name in imagenet_classes())
        if tuple(names) == imagenet:
            names = ids
        elif tuple(target) == imagenet:
            numbers = {wnid: number for number, wnid in enumerate(ids)}
    for name in names:
        if name not in numbers:
            raise InputError(f"the classifier must have the classes of the localizer; {name!r} is not one of them.")
    return np.array([numbers[name] for name in names], "int64")
