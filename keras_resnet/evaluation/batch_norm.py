"""Batch norm statistics recomputed over training data, as the authors did for their released models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_resnet.errors import InputError


def recalibrate_batch_norm(
    model: keras.Model, dataset: Iterable, steps: int | None = None, progress: bool = True
) -> int:
    """Replace the moving statistics of all batch norm layers by the exact ones over training batches.

    Each batch is normalized by its own statistics, as in training. The new mean and variance of a layer are those of
    its inputs over all batches. If anything fails, all layers keep their old statistics.

    Args:
        model: a built network, changed in place.
        dataset: batches f32[B,H,W,3], or tuples that begin with them, such as those of
            `keras_resnet.data.pipeline.train`. Batches should be as large as in training.
        steps: number of batches; None for all of a finite data set.
        progress: whether to show a progress bar, on a terminal.

    Returns:
        The number of images.

    Raises:
        ValueError: the model has no batch norm, or there are no batches.
        FloatingPointError: a statistic is not finite.
    """
    layers = list(_batch_norms(model))
    if not layers:
        raise InputError(f"model must have batch norm layers; {model.name} has none.")
    if steps is not None and steps < 1:
        raise InputError(f"steps must be at least 1 or None; got {steps}.")
    before = [(layer.moving_mean.numpy(), layer.moving_variance.numpy()) for layer in layers]
    options = [(layer.momentum, layer.trainable) for layer in layers]
    done = False
    try:
        for layer in layers:
            # With momentum 0, the moving statistics after a batch are those of the batch.
            layer.momentum, layer.trainable = 0.0, True
            _assign(layer, np.zeros_like(layer.moving_mean.numpy()), np.ones_like(layer.moving_mean.numpy()))
        statistics, count = _pooled(model, layers, dataset, steps, progress)
        done = True
    finally:
        for layer, (momentum, trainable) in zip(layers, options, strict=True):
            layer.momentum, layer.trainable = momentum, trainable
        for layer, values in zip(layers, statistics if done else before, strict=True):
            _assign(layer, *values)
    return count


def _batch_norms(model: keras.Model) -> Iterator[keras.layers.BatchNormalization]:
    """The batch norm layers of a model and of nested models."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from _batch_norms(layer)


def _assign(layer: keras.layers.BatchNormalization, mean: np.ndarray, variance: np.ndarray) -> None:
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)


def _pooled(
    model: keras.Model,
    layers: Sequence[keras.layers.BatchNormalization],
    dataset: Iterable,
    steps: int | None,
    progress: bool,
) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
    """Mean and variance of each layer's inputs over all batches, and the number of images."""

    @tf.function(reduce_retracing=True)
    def forward(images: tf.Tensor) -> None:
        model(images, training=True)

    means: list[Any] = [0.0] * len(layers)
    squares: list[Any] = [0.0] * len(layers)
    count = 0
    for number, batch in enumerate(tqdm(dataset, desc="batch norm", total=steps, disable=None if progress else True)):
        if number == steps:
            break
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        forward(images)
        for index, layer in enumerate(layers):
            mean, variance = (v.numpy().astype("float64") for v in (layer.moving_mean, layer.moving_variance))
            means[index] += len(images) * mean
            squares[index] += len(images) * (variance + mean**2)
        count += len(images)
    if not count:
        raise InputError("dataset must hold at least one batch; got none.")
    means, squares = ([total / count for total in totals] for totals in (means, squares))
    for layer, square in zip(layers, squares, strict=True):
        if not np.all(np.isfinite(square)):
            raise FloatingPointError(f"the inputs of {layer.name} are not finite")
    return [(mean, np.maximum(square - mean**2, 0)) for mean, square in zip(means, squares, strict=True)], count
