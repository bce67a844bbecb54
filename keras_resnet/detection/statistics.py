"""Batch norm's statistics over a whole training set, to be fixed in a detector (appendix A of the paper)."""

from __future__ import annotations

from collections.abc import Iterable

import keras


def recompute(classifier: keras.Model, batches: Iterable) -> None:
    """Replace the moving statistics of a classification network by their plain mean over batches.

    Args:
        classifier: f32[B,H,W,3] -> any; its layers of batch norm must not be frozen.
        batches: images f32[B,H,W,3] of the training set, normalised; the larger they are, the less noise.

    Raises:
        ValueError: no batch.
    """
    layers = [layer for layer in classifier.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    number = 0
    try:
        for number, images in enumerate(batches, start=1):
            for layer in layers:
                layer.momentum = (number - 1) / number
            classifier(images, training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    if not number:
        raise ValueError("batches must hold at least one batch; got none.")
