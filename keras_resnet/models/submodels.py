"""Build a model from part of the graph of another, however deep it is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import keras

FRAMES_PER_LAYER = 30
"""Upper bound of the Python frames that Keras' recursion over a model's graph takes for each layer."""


@contextlib.contextmanager
def deep_recursion(layers: int) -> Iterator[None]:
    """Raise Python's recursion limit while Keras builds a model of `layers` layers: ResNet-1202 exceeds the default."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + FRAMES_PER_LAYER * layers)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def submodel(model: keras.Model, outputs: Any, name: str | None = None) -> keras.Model:
    """Return the model from the input of `model` to some of its intermediate tensors; the layers are shared.

    Args:
        model: a functional model.
        outputs: a Keras tensor inside `model`, or a structure of them.
        name: name of the result.
    """
    with deep_recursion(len(model.layers)):
        return keras.Model(model.input, outputs, name=name)
