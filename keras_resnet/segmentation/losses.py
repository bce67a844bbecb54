"""The loss of segmentation, the cross-entropy of each labeled pixel, and the mean IoU of logits during training.

    model.compile("sgd", **losses.compile_options(auxiliary=True, hard_fraction=0.25))

Works on every backend; with TensorFlow's distribution strategies the mean is over the batches of all replicas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet import compat
from keras_resnet.errors import InputError
from keras_resnet.segmentation.choices import IGNORE_LABEL

AUXILIARY_WEIGHT = 0.5
"""Weight of the auxiliary head's loss, as in torchvision."""


@keras.saving.register_keras_serializable(package="keras_resnet")
class PixelCrossEntropy(keras.losses.Loss):
    """Softmax cross-entropy of logits f32[B,H,W,K] with labels i32[B,H,W], the mean over labeled pixels.

    The loss is `sum(weight * cross_entropy) / sum(weight)` over all labeled pixels of the batch, on all replicas, so
    that images count by their labeled pixels and several replicas compute the loss of one device. A batch without
    labeled pixels has a loss of 0. It is computed in float32.

    Args:
        ignore_label: label of pixels that count neither in the sum nor in the denominator.
        class_weights: weight of the pixels of each class, K numbers; by default 1. See `median_frequency_weights`.
        hard_fraction: fraction of the labeled pixels of each image, in (0, 1], that counts: those with the highest
            cross-entropy, with equal ones (online hard example mining; Wu et al., "High-performance Semantic
            Segmentation", 2016). The other pixels are treated as unlabeled.
        name: name of the loss.
        **kwargs: arguments of `keras.losses.Loss`.

    Raises:
        ValueError: a weight is negative or not finite, or `hard_fraction` is not in (0, 1]; or, from a call, the labels
            are one-hot or of another size.
    """

    def __init__(
        self,
        ignore_label: int = IGNORE_LABEL,
        class_weights: Sequence[float] | None = None,
        hard_fraction: float = 1.0,
        name: str = "pixel_cross_entropy",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        if not 0 < hard_fraction <= 1:
            raise InputError(f"hard_fraction must be in (0, 1]; got {hard_fraction!r}.")
        if class_weights is not None and not all(0 <= weight < math.inf for weight in class_weights):
            raise InputError(f"class_weights must be finite numbers of at least 0; got {list(class_weights)}.")
        self.ignore_label = ignore_label
        self.class_weights = None if class_weights is None else tuple(float(weight) for weight in class_weights)
        self.hard_fraction = hard_fraction

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return f32[B]: each image's sum over pixels, divided by the mean weight of an image."""
        _check_shape(y_true, y_pred)
        labels, logits = compat.cast(y_true, "int32"), compat.cast(y_pred, "float32")
        batch, pixels = compat.shape(logits)[0], math.prod(logits.shape[1:3]) if None not in logits.shape[1:3] else -1
        labels = compat.reshape(labels, [batch, pixels])
        logits = compat.reshape(logits, [batch, pixels, logits.shape[-1]])
        labeled = labels != self.ignore_label
        labels = compat.where(labeled, labels, 0)
        losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        losses = compat.where(labeled, losses, 0.0)
        weights = compat.cast(labeled & self._is_hard(losses, labeled), "float32")
        if self.class_weights is not None:
            weights *= compat.take(self._weights(logits.shape[-1]), labels, axis=0)
        mean_weight = _mean_over_replicas(compat.reduce_mean(compat.reduce_sum(weights, 1)))
        is_empty = mean_weight == 0
        return compat.reduce_sum(weights * losses, 1) / compat.where(is_empty, 1.0, mean_weight)

    def _weights(self, classes: int) -> Any:
        assert self.class_weights is not None
        if len(self.class_weights) != classes:
            raise InputError(f"class_weights must be {classes} numbers, one for each class; got {self.class_weights}.")
        return compat.convert_to_tensor(np.array(self.class_weights, "float32"))

    def _is_hard(self, losses: Any, labeled: Any) -> Any:
        """Whether each pixel is among the `hard_fraction` of its image with the highest losses: bool[B,N]."""
        if self.hard_fraction == 1:
            return labeled
        losses = compat.where(labeled, losses, -1.0)
        static = losses.shape[1]
        most = math.ceil(self.hard_fraction * static) if static is not None else compat.shape(losses)[1]
        ranked = compat.top_k(losses, most)[0]
        count = compat.reduce_sum(compat.cast(labeled, "float32"), 1)
        last = compat.cast(self.hard_fraction * count + 0.5, "int32") - 1  # rounded, and counted from 0
        last = compat.where(last < 0, 0, last)
        return losses >= compat.take_along_axis(ranked, last[:, None], axis=1)

    def get_config(self) -> dict[str, Any]:
        own = {
            "ignore_label": self.ignore_label,
            "class_weights": self.class_weights,
            "hard_fraction": self.hard_fraction,
        }
        return {**super().get_config(), **own}


def _check_shape(labels: Any, logits: Any) -> None:
    """Raise `InputError` if labels, whose sizes may be unknown, are not [B,H,W] or [B,H,W,1] of logits [B,H,W,K]."""
    shape, size = tuple(labels.shape), tuple(logits.shape[1:3])
    sides = shape[1:-1] if len(shape) == 4 and shape[-1] in (1, None) else shape[1:]
    known = len(sides) == 2 and all(None in pair or pair[0] == pair[1] for pair in zip(sides, size, strict=True))
    if not known:
        hint = "; argmax(-1) makes them of one-hot labels" if sides[:-1] == size else ""
        raise InputError(
            f"labels must be class numbers of the size of the logits, [batch, {size[0]}, {size[1]}]; got shape "
            f"{list(shape)}{hint}."
        )


def _mean_over_replicas(value: Any) -> Any:
    """Return the mean of a number over the replicas that train together; the number itself outside of a strategy."""
    if keras.backend.backend() != "tensorflow":
        return value

    import tensorflow as tf  # only runs on the TensorFlow backend

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, value)


@keras.saving.register_keras_serializable(package="keras_resnet")
class MeanIoU(keras.metrics.MeanIoU):
    """Mean IoU in percent of logits f32[B,H,W,K] and labels i32[B,H,W], for `model.compile`: over all steps so far.

    Args:
        classes: number of classes K.
        ignore_label: label of the pixels that are left out.
        name: name of the metric.
        dtype: dtype of the counts.
    """

    def __init__(self, classes: int, ignore_label: int = IGNORE_LABEL, name: str = "mean_iou", dtype: Any = None):
        super().__init__(classes, name=name, dtype=dtype, ignore_class=ignore_label, sparse_y_pred=False)

    def result(self) -> Any:
        return 100 * super().result()

    def get_config(self) -> dict[str, Any]:
        return {
            "classes": self.num_classes,
            "ignore_label": self.ignore_class,
            "name": self.name,
            "dtype": self.dtype,
        }


def compile_options(
    *, auxiliary: bool = False, auxiliary_weight: float = AUXILIARY_WEIGHT, **options: Any
) -> dict[str, Any]:
    """Return the arguments of `model.compile` for the losses of a model of `segmentation.models`.

    Args:
        auxiliary: whether the model has the auxiliary head; its batches are images and a dictionary with the labels as
            "logits" and as "auxiliary".
        auxiliary_weight: weight of the auxiliary head's loss.
        **options: arguments of `PixelCrossEntropy`.
    """
    if not auxiliary:
        return {"loss": PixelCrossEntropy(**options)}
    names = ("logits", "auxiliary")
    return {
        "loss": {name: PixelCrossEntropy(**options, name=name) for name in names},
        "loss_weights": dict(zip(names, (1.0, auxiliary_weight), strict=True)),
    }


def median_frequency_weights(
    class_pixels: Sequence[int] | np.ndarray, image_pixels: Sequence[int] | np.ndarray
) -> tuple[float, ...]:
    """Return class weights by median frequency balancing (Eigen and Fergus, 2015).

    The frequency of a class is its share of the labeled pixels of the images in which it occurs; its weight is the
    median frequency of the classes that occur, divided by its own.

    Args:
        class_pixels: i64[K], pixels of each class in the training images.
        image_pixels: i64[K], labeled pixels of all images in which the class occurs.

    Returns:
        K weights; 1 for classes that do not occur.
    """
    own, all_labeled = np.asarray(class_pixels, "float64"), np.asarray(image_pixels, "float64")
    occurs = own > 0
    if not occurs.any():
        return (1.0,) * len(own)
    frequency = np.where(occurs, own / np.where(occurs, all_labeled, 1), 1.0)
    weights = np.where(occurs, np.median(frequency[occurs]) / frequency, 1.0)
    return tuple(float(weight) for weight in weights)
