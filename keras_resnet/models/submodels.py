"""Build a model from part of the graph of another, or from copies of its layers, however deep it is."""

from __future__ import annotations

import collections
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_resnet import compat
from keras_resnet.errors import InputError

FRAMES_PER_LAYER = 30
"""Upper bound of the Python frames that Keras' recursion over a model's graph takes for each layer."""


def check_functional(model: keras.Model) -> None:
    """Raise `InputError` unless a model is functional."""
    if not hasattr(model, "inputs") or not getattr(model, "_is_graph_network", hasattr(model, "operations")):
        raise InputError(f"model must be a functional Keras model; got {type(model).__name__}.")


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


def readers(model: keras.Model) -> dict[int, list[keras.layers.Layer]]:
    """Return the layers that read each tensor of a functional model, by the tensor's `id`; empty for outputs."""
    result: dict[int, list[keras.layers.Layer]] = collections.defaultdict(list)
    for layer in model.layers:
        if not isinstance(layer, keras.layers.InputLayer):
            for tensor in compat.flatten(layer.input):
                result[id(tensor)].append(layer)
    return result


def rebuild(
    model: keras.Model,
    copy: Callable[[keras.layers.Layer], keras.layers.Layer],
    call: Callable[[keras.layers.Layer, Any], Any],
    *,
    inference: bool = False,
) -> keras.Model:
    """Rebuild a functional model from copies of its layers.

    Args:
        model: a functional model whose layers are each called once; it is not changed.
        copy: returns the copy of a layer, without the weights.
        call: applies a copy to its inputs, and returns the outputs.
        inference: whether the result is for inference only, where a call with `training=False` changes nothing.

    Returns:
        A functional model with the same structure of inputs and outputs, and fresh weights.

    Raises:
        ValueError: a layer is called several times, or with more than its inputs, or is a model, or the graph has
            functions of `keras.ops`.
    """
    known: dict[int, Any] = {}

    def copied(tensor: Any) -> Any:
        if id(tensor) not in known:
            raise InputError(
                f"model must consist of layers that are each called once, without nested models and functions of "
                f"keras.ops; got {model.name!r}, where none has the output {tensor.name!r}."
            )
        return known[id(tensor)]

    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            known[id(layer.output)] = keras.Input(layer.output.shape[1:], name=layer.name, dtype=layer.output.dtype)
            continue
        inputs = [copied(tensor) for tensor in compat.flatten(layer.input)]
        for name, value in compat.call_arguments(layer).items():
            if not (inference and name == "training" and value is False):
                what = name if name.startswith("argument") else f"{name}={value!r}"
                raise InputError(
                    f"model must consist of layers that are called with their inputs alone; layer {layer.name!r} is "
                    f"also called with {what}."
                )
        known[id(layer.output)] = call(copy(layer), inputs if isinstance(layer.input, list) else inputs[0])
    ends = (compat.map_structure(copied, end) for end in (model.input, model.output))
    with deep_recursion(len(model.layers)):
        return keras.Model(*ends, name=model.name)
