"""Losses and the error of logits, for labels and for mixtures of labels."""

from __future__ import annotations

from typing import Any

import keras

from keras_resnet import compat


def is_index(labels: Any, scores: Any) -> bool:
    """Return whether labels are class indices, [B] or [B,1], rather than distributions [B,K] like the scores."""
    return len(labels.shape) == 1 or (labels.shape[-1] == 1 and scores.shape[-1] != 1)


@keras.saving.register_keras_serializable(package="keras_resnet")
class CrossEntropy(keras.losses.Loss):
    """Softmax cross-entropy of logits f32[B,K] with labels i32[B], or with distributions f32[B,K] of mixed images.

    Args:
        label_smoothing: share of each label that is spread over all classes (Szegedy et al., 2015), in [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "cross_entropy", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return keras.losses.categorical_crossentropy(
            distributions(y_true, y_pred), y_pred, from_logits=True, label_smoothing=self.label_smoothing
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable(package="keras_resnet")
class BinaryCrossEntropy(keras.losses.Loss):
    """Sigmoid cross-entropy of logits f32[B,K], the mean over classes: each class is a binary problem.

    A mixed image can then belong fully to both its classes (Wightman et al., "ResNet strikes back", 2021).

    Args:
        label_smoothing: share of each label that is spread over all classes, in [0, 1).
        threshold: labels above it become 1, others 0, before the smoothing; 0 keeps the shares.
    """

    def __init__(
        self, label_smoothing: float = 0.0, threshold: float = 0.0, name: str = "binary_cross_entropy", **kwargs: Any
    ):
        super().__init__(name=name, **kwargs)
        self.label_smoothing, self.threshold = label_smoothing, threshold

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_true = distributions(y_true, y_pred)
        if self.threshold:
            y_true = compat.cast(y_true > self.threshold, y_pred.dtype)
        smoothing = self.label_smoothing
        y_true = y_true * (1.0 - smoothing) + smoothing / y_pred.shape[-1]
        return keras.losses.binary_crossentropy(y_true, y_pred, from_logits=True)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_smoothing": self.label_smoothing, "threshold": self.threshold}


def distributions(labels: Any, scores: Any) -> Any:
    """Return labels, i32[B] or f32[B,K], as distributions [B,K] of the scores' dtype."""
    if is_index(labels, scores):
        labels = compat.one_hot(compat.cast(compat.reshape(labels, [-1]), "int32"), scores.shape[-1])
    return compat.cast(labels, scores.dtype)


@keras.saving.register_keras_serializable(package="keras_resnet")
class Top1Error(keras.metrics.MeanMetricWrapper):
    """Percentage of images whose best class is not the label; the label of a mixture is its largest part."""

    def __init__(self, name: str = "top1_error", dtype: Any = None):
        super().__init__(_top1_error, name=name, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype}


def _top1_error(y_true: Any, y_pred: Any) -> Any:
    index = compat.reshape(y_true, [-1]) if is_index(y_true, y_pred) else compat.argmax(y_true, -1)
    wrong = compat.cast(index, "int32") != compat.cast(compat.argmax(y_pred, -1), "int32")
    return 100 * compat.cast(wrong, "float32")
