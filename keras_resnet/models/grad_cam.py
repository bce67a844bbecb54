"""Grad-CAM: which parts of an image speak for a class (Selvaraju et al., 2017).

maps = keras_resnet.grad_cam(model, images)        # f32[B,H,W], for the most probable class of each image
Image.fromarray(keras_resnet.models.grad_cam.overlay(photo, maps[0])).show()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet import compat
from keras_resnet.errors import InputError, did_you_mean
from keras_resnet.models.features import feature_info
from keras_resnet.models.submodels import deep_recursion

DEPTH = 10_000
"""Upper bound of the layers of a model."""

CHUNK = 16
"""Images whose gradients are computed at once."""

COLORS = np.array([(0, 0, 143), (0, 80, 255), (0, 220, 255), (120, 255, 130), (255, 220, 0), (255, 70, 0), (128, 0, 0)])
"""Red, green and blue of equally spaced values from 0 to 1, blue to red."""


def grad_cam(
    model: keras.Model,
    images: Any,
    classes: int | Sequence[int] | np.ndarray | None = None,
    layer: str | None = None,
) -> np.ndarray:
    """Compute the Grad-CAM of each image: ReLU of the sum of a layer's feature maps, weighted by their mean gradients.

    The gradients are those of the logit of a class, whether or not the network ends in a softmax or sigmoid. Works on
    every backend, and on a network of this package inside another model, such as
    `keras.Sequential([keras_resnet.ResNet50(include_top=False, pooling="avg"), keras.layers.Dense(3)])`.

    Args:
        model: a functional or sequential classifier, f32[B,H,W,C] -> f32[B,K].
        images: f32[B,H,W,C], preprocessed as for the network.
        classes: a class for all images or one for each, from 0; by default the most probable one of each.
        layer: name of a layer through which all of the network passes, such as "conv4_block6_out"; by default the last
            one of the last stage.

    Returns:
        f32[B,H,W] of the images' size, from 0 to 1: the map of an image is divided by its maximum, and is 0 if no part
        speaks for the class.

    Raises:
        ValueError: the images, a class or the layer is unsuitable, or the model is no classifier with such a layer.
    """
    return GradCAM(model, layer)(images, classes)


class GradCAM:
    """`grad_cam` for several calls with one model, which is divided only once; see there.

    Args:
        model: a functional or sequential classifier, f32[B,H,W,C] -> f32[B,K].
        layer: name of a layer; by default the last one of the last stage.
    """

    def __init__(self, model: keras.Model, layer: str | None = None):
        _check_model(model)
        self.body, self.head = split(model, _default_layer(model) if layer is None else layer)
        self._gradient = _gradient(self.head)

    def __call__(self, images: Any, classes: int | Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Return the maps f32[B,H,W] of images f32[B,H,W,C]."""
        images = _images(images, self.body.inputs[0].shape)
        return np.stack(
            [_normalized(_interpolated(found, images.shape[1:3])) for found in self.coarse(images, classes)]
        )

    def coarse(self, images: Any, classes: int | Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Return the maps f32[B,h,w] in the size of the layer, from 0 to 1."""
        images = _images(images, self.body.inputs[0].shape)
        count = self.head.outputs[0].shape[-1]
        labels = None if classes is None else _checked(classes, len(images), count)
        maps: list[np.ndarray] = []
        for start in range(0, len(images), CHUNK):
            part = images[start : start + CHUNK]
            activations = self.body.predict_on_batch(part)
            if labels is None:
                chosen = np.asarray(self.head.predict_on_batch(activations), "float32").argmax(-1)
            else:
                chosen = labels[start : start + CHUNK]
            gradients = np.asarray(self._gradient(activations, np.eye(count, dtype="float32")[chosen]))
            combined = combine(np.asarray(activations, "float32"), gradients)
            maps += [_normalized(found) for found in combined]
        return np.stack(maps)


def combine(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Return ReLU(sum_k a_k A_k), f32[B,h,w], where a_k is the mean of the gradient of map A_k: equations 1 and 2.

    Args:
        activations: f32[B,h,w,k].
        gradients: f32[B,h,w,k], of a class's logit.
    """
    weights = gradients.mean((1, 2), keepdims=True)
    return np.maximum((weights * activations).sum(-1), 0)


def overlay(image: np.ndarray, heat_map: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Draw a map over an image in colors from blue to red.

    Args:
        image: u8[H,W,3].
        heat_map: f32[h,w] from 0 to 1; resized to the image.
        opacity: opacity of the colors, from 0 to 1.

    Returns:
        u8[H,W,3].
    """
    values = _interpolated(heat_map, image.shape[:2])
    places = np.linspace(0, 1, len(COLORS))
    colors = np.stack([np.interp(values, places, channel) for channel in COLORS.T], -1)
    return np.round((1 - opacity) * image + opacity * colors).clip(0, 255).astype("uint8")


def split(model: keras.Model, layer: str) -> tuple[keras.Model, keras.Model]:
    """Divide a classifier at the output of a layer.

    Args:
        model: a functional or sequential classifier.
        layer: name of a layer of the model, or of a model inside it that is called once.

    Returns:
        The model from the images to the layer's output, and that from there to the logits; they share the layers.

    Raises:
        ValueError: there is no such layer, or a connection bypasses it.
    """
    inner = _holder(model, layer)
    names = [each.name for each in (inner or model).layers]
    if layer not in names:
        options = [name for name in names if name.endswith("_out")] or names
        raise InputError(
            f"layer must be one of the model's, such as {options[-1]!r}; got {layer!r}{did_you_mean(layer, names)}"
        )
    cut = (inner or model).get_layer(layer).output
    if len(cut.shape) != 4:
        raise InputError(f"layer must have feature maps of shape [B,h,w,k]; {layer!r} has shape {_written(cut.shape)}.")
    start = keras.Input(cut.shape[1:], dtype=cut.dtype)
    if inner is None:
        return _part(model.inputs[0], cut, layer), keras.Model(start, _apply(start, cut, _logits(model), layer))
    # The graph of the inner model is apart from that of the outer one: its halves are called in its place.
    position = model.layers.index(inner)
    before, after = model.layers[position - 1].output if position else model.inputs[0], model.layers[position + 1 :]
    body = keras.Model(model.inputs[0], _apply(before, inner.inputs[0], cut, layer))
    x = _apply(start, cut, inner.outputs[0] if after else _logits(inner), layer)
    return body, keras.Model(start, _apply(x, after[0].input, _logits(model), layer) if after else x)


def _holder(model: keras.Model, layer: str) -> keras.Model | None:
    """The model among the layers of another that has a layer; None if the other itself has it or none has."""
    if any(each.name == layer for each in model.layers):
        return None
    inside = [each for each in model.layers if isinstance(each, keras.Model)]
    return next((each for each in inside if any(part.name == layer for part in each.layers)), None)


def _default_layer(model: keras.Model) -> str:
    """The last layer of the last stage of a network of this package, which may be inside another model."""
    for candidate in (model, *(each for each in model.layers if isinstance(each, keras.Model))):
        try:
            return feature_info(candidate)[-1].layer
        except InputError:
            continue
    raise InputError(
        f"layer must be given for a model that contains no network of this package, such as {model.name!r}."
    )


def _apply(x: Any, start: Any, end: Any, layer: str) -> Any:
    """Compute one tensor of a graph from a value in place of another."""
    return x if start is end else _part(start, end, layer)(x)


def _part(start: Any, end: Any, layer: str) -> keras.Model:
    """The model from one tensor of a graph to another."""
    try:
        with deep_recursion(DEPTH):
            return keras.Model(start, end)
    except ValueError as error:
        raise InputError(
            f"layer must be one through which all of the network passes, such as the last of a block; got {layer!r}."
        ) from error


def _logits(model: keras.Model) -> Any:
    """The output of a classifier before its softmax or sigmoid."""
    (output,) = model.outputs
    last = next(each for each in reversed(model.layers) if each.output is output)
    if isinstance(last, (keras.layers.Activation, keras.layers.Softmax)):
        return last.input
    if not isinstance(last, keras.layers.Dense) or last.activation in (None, keras.activations.linear):
        return output
    linear = keras.layers.Dense.from_config({**last.get_config(), "activation": None, "name": f"{last.name}_logits"})
    logits = linear(last.input)
    linear.set_weights(last.get_weights())
    return logits


def _check_model(model: Any) -> None:
    """Raise `InputError` for a model that has no graph from one batch of images to one score for each class."""
    graph = isinstance(model, keras.Model) and model.built and getattr(model, "inputs", None)
    if not graph or len(model.inputs) != 1 or len(model.outputs) != 1:
        what = f"{len(model.inputs)} inputs and {len(model.outputs)} outputs" if graph else repr(model)
        raise InputError(
            f"model must be a functional or sequential keras.Model with one input and one output, the scores of the "
            f"classes; got {what}."
        )


def _images(images: Any, shape: Sequence[int | None]) -> np.ndarray:
    """Images as f32[B,H,W,C] of the shape that the model takes."""
    try:
        found = np.asarray(images.detach().cpu() if hasattr(images, "detach") else images, "float32")  # PyTorch's
    except (TypeError, ValueError) as error:
        raise InputError(f"images must be numbers f32[B,H,W,C]; got {type(images).__name__}: {error}") from error
    if found.ndim != 4 or not len(found):
        raise InputError(f"images must be f32[B,H,W,C] with at least one image; got shape {found.shape}.")
    if any(side not in (None, given) for side, given in zip(shape[1:], found.shape[1:], strict=True)):
        raise InputError(f"images must have the model's shape {_written(shape)}; got {_written(found.shape)}.")
    return found


def _written(shape: Sequence[int | None]) -> str:
    """A shape as text: "[B,32,32,3]"."""
    return f"[{','.join('?' if side is None else str(side) for side in shape)}]"


def _checked(classes: Any, images: int, count: int) -> np.ndarray:
    """The class of each image, i64[B]."""
    labels = np.asarray(classes)
    valid = np.issubdtype(labels.dtype, np.integer) and labels.shape in ((), (images,))
    if not valid or labels.min() < 0 or labels.max() >= count:
        raise InputError(
            f"classes must be an integer from 0 to {count - 1}, or one for each of {images} images; got {classes!r}."
        )
    return np.broadcast_to(labels, (images,))


def _gradient(head: keras.Model) -> Callable[[Any, np.ndarray], Any]:
    """Return the function from feature maps f32[B,h,w,k] and a mask f32[B,K] to the gradients of the masked logits."""
    return {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()](head)


def _tensorflow(head: keras.Model) -> Callable[[Any, np.ndarray], Any]:
    import tensorflow as tf

    @tf.function(reduce_retracing=True)  # computes no gradients of weights, which the tape alone would
    def gradient(activations: Any, mask: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(activations)
            score = tf.reduce_sum(tf.cast(head(activations, training=False), "float32") * mask)
        return tf.cast(tape.gradient(score, activations), "float32")

    return lambda activations, mask: gradient(tf.convert_to_tensor(activations), mask)


def _jax(head: keras.Model) -> Callable[[Any, np.ndarray], Any]:
    import jax

    def score(activations: Any, mask: Any, *variables: Any) -> Any:
        outputs, _ = head.stateless_call(*variables, activations, training=False)
        return (outputs.astype("float32") * mask).sum()

    gradient = jax.jit(jax.grad(score))
    groups = head.trainable_variables, head.non_trainable_variables
    return lambda *inputs: gradient(*inputs, *([each.value for each in group] for group in groups)).astype("float32")


def _torch(head: keras.Model) -> Callable[[Any, np.ndarray], Any]:
    import torch

    def gradient(activations: Any, mask: np.ndarray) -> Any:
        activations = compat.convert_to_tensor(activations).detach().requires_grad_()
        score = (head(activations, training=False).float() * compat.convert_to_tensor(mask)).sum()
        return torch.autograd.grad(score, activations)[0].float().cpu()

    return gradient


def _normalized(values: np.ndarray) -> np.ndarray:
    """A map divided by its maximum."""
    return values / max(float(values.max()), np.finfo("float32").tiny)


def _interpolated(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map f32[h,w] by linear interpolation."""
    rows, columns = (_interpolation(*sides) for sides in zip(values.shape, size, strict=True))
    return (rows @ values @ columns.T).astype("float32")


def _interpolation(source: int, target: int) -> np.ndarray:
    """The matrix f64[target,source] of linear interpolation between the centers of pixels."""
    places = (np.arange(target) + 0.5) * source / target - 0.5
    return np.stack([np.interp(places, np.arange(source), row) for row in np.eye(source)], 1)
