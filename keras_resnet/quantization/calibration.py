"""The first scales of activations: those that round a network's activations on some images with the least error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_resnet.errors import InputError
from keras_resnet.models.submodels import rebuild, submodel
from keras_resnet.quantization import rounding
from keras_resnet.quantization.layers import Quantize

SAMPLES = 20_000
"""Numbers of each tensor and batch that the scales are chosen from, spread evenly, besides the largest."""


def calibrate(model: keras.Model, batches: Iterable[Any]) -> None:
    """Set the scales of all activations of a prepared network, in place.

    Args:
        model: from `preparation.prepare`.
        batches: batches of images f32[B,H,W,C], normalized as for the float network. A few hundred images suffice.

    Raises:
        ValueError: the network has no scale to set, there are no images, or a batch is not of normalized images.
    """
    if not any(isinstance(layer, Quantize) for layer in model.layers):
        raise InputError("model must be a network from quantization.prepare; it has no scale to calibrate.")
    probes = _probes(model)
    values: dict[str, list[np.ndarray]] = {name: [] for name in probes.output}
    for batch in batches:
        for name, tensor in probes(_images(batch, model), training=False).items():
            values[name].append(_sample(keras.ops.convert_to_numpy(tensor).reshape(-1)))
    for name, samples in values.items():
        if not samples:
            raise InputError("batches must have at least one image to calibrate with; got none.")
        layer = model.get_layer(name)
        layer.start_at(rounding.best_scales(np.concatenate(samples)[:, None], layer.limits)[0])


def _images(batch: Any, model: keras.Model) -> Any:
    """Return a batch as a tensor; raise `InputError` unless it is of normalized images of the network's size."""
    sides = ",".join("*" if side is None else str(side) for side in model.input_shape[1:])
    rule = f"batches must be of normalized images, float32[B,{sides}], without labels"
    if isinstance(batch, (tuple, list, dict)):
        raise InputError(f"{rule}; got a {type(batch).__name__}.")
    shape, kind = tuple(batch.shape), keras.backend.standardize_dtype(batch.dtype)
    expected = tuple(model.input_shape[1:])
    fits = len(shape) == 4 and all(side in (None, got) for side, got in zip(expected, shape[1:], strict=True))
    if not fits or not shape[0] or "float" not in kind:
        raise InputError(f"{rule}; got {kind}{list(shape)}.")
    images = keras.ops.convert_to_tensor(batch)
    if not np.isfinite(keras.ops.convert_to_numpy(images).astype("float32")).all():
        raise InputError(f"{rule}; got values that are not finite.")
    return images


def _probes(model: keras.Model) -> keras.Model:
    """Return a network that computes the inputs of all `Quantize` layers, by name, without rounding activations."""
    inputs_of: dict[str, Any] = {}

    def call(layer: keras.layers.Layer, inputs: Any) -> Any:
        if isinstance(layer, Quantize):
            inputs_of[layer.name] = inputs
            return inputs
        return layer(inputs)

    copied = rebuild(model, lambda layer: type(layer).from_config(layer.get_config()), call)
    for layer in model.layers:
        if layer.weights and not isinstance(layer, Quantize):
            copied.get_layer(layer.name).set_weights(layer.get_weights())
    return submodel(copied, inputs_of)


def _sample(values: np.ndarray) -> np.ndarray:
    """Return numbers spread evenly over a tensor, and its largest."""
    largest = values[np.abs(values).argmax()]
    return np.append(values[:: max(1, len(values) // SAMPLES)], largest)
