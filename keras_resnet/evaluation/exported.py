"""SavedModels and TFLite files as plain functions from images to scores, so that the same evaluation measures them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_resnet.errors import InputError


@dataclasses.dataclass(frozen=True)
class Exported:
    """An exported network.

    Attributes:
        name: the file or folder.
        function: f32[B,H,W,3] in [0, 255] -> scores f32[B,K]; values are rounded for a network that takes integers.
        size: height and width of its input; None where it takes any.
        classes: number of scores; None where the file does not say.
    """

    name: str
    function: Callable[[np.ndarray], np.ndarray]
    size: tuple[int | None, int | None]
    classes: int | None


def saved_model(path: str | os.PathLike) -> Exported:
    """Read a SavedModel with a signature `serving_default` that takes images [N,H,W,3].

    Raises:
        ValueError: there is none, or its signature has another input or output.
    """
    path = pathlib.Path(path)
    if not (path / "saved_model.pb").is_file():
        raise InputError(f"saved_model must be the folder of a SavedModel; {str(path)!r} is not.")
    loaded = tf.saved_model.load(str(path))
    if "serving_default" not in loaded.signatures:
        raise InputError(f"saved_model must have the signature serving_default; it has {sorted(loaded.signatures)}.")
    signature = loaded.signatures["serving_default"]
    inputs = signature.structured_input_signature[1]
    name = _only_image({name: spec.shape for name, spec in inputs.items()}, "saved_model")
    output = _scores_name(signature.structured_outputs, "saved_model")
    spec = inputs[name]

    def function(images):
        # `loaded` must live as long as its signature, which does not hold its variables.
        function.keep = loaded
        return signature(**{name: _as_type(images, spec.dtype)})[output].numpy()

    return Exported(str(path), function, tuple(spec.shape[1:3]), signature.structured_outputs[output].shape[-1])


def tflite(path: str | os.PathLike, threads: int | None = None) -> Exported:
    """Read a TFLite file that takes images [N,H,W,3]; of a quantised output the values are scaled back.

    Args:
        path: the file.
        threads: of the interpreter; by default one a processor.

    Raises:
        ValueError: it cannot be read, or has another input or output; LiteRT is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise InputError("tflite needs the package ai-edge-litert, which the extra 'tflite' installs.") from error
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"tflite must be an existing file; there is no {str(path)!r}.")
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads or os.cpu_count())
    except ValueError as error:
        raise InputError(f"tflite must be a TFLite file; {str(path)!r} cannot be read: {error}.") from error
    inputs = {detail["name"]: detail for detail in interpreter.get_input_details()}
    name = _only_image({name: _shape(detail) for name, detail in inputs.items()}, "tflite")
    entry, signature = inputs[name], tuple(inputs[name]["shape_signature"])
    if entry["dtype"] not in (np.uint8, np.float32):
        raise InputError(f"tflite must take uint8 or float32 images; {str(path)!r} takes {entry['dtype'].__name__}.")
    (exit_,) = interpreter.get_output_details()
    interpreter.allocate_tensors()
    batch = int(entry["shape"][0])

    def run(images):
        nonlocal batch
        if len(images) != batch:
            interpreter.resize_tensor_input(entry["index"], [len(images), *images.shape[1:]])
            interpreter.allocate_tensors()
            batch = len(images)
        interpreter.set_tensor(entry["index"], images)
        interpreter.invoke()
        values = interpreter.get_tensor(exit_["index"])
        if values.dtype != np.float32:
            scale, zero = exit_["quantization"]
            values = np.float32(scale) * (values.astype("float32") - zero)
        return values

    def function(images):
        images = _as_type(images, tf.as_dtype(entry["dtype"])).numpy()
        if signature[0] == -1:
            return run(images)
        fixed = max(signature[0], 1)
        if len(images) % fixed:
            raise InputError(f"batch_size must be a multiple of {fixed}, the batch of {str(path)!r}.")
        return np.concatenate([run(part) for part in np.split(images, len(images) // fixed)])

    return Exported(str(path), function, tuple(_shape(entry)[1:3]), int(exit_["shape"][-1]))


def _shape(detail: dict) -> tf.TensorShape:
    """The shape of a TFLite tensor, whose -1 means any."""
    return tf.TensorShape([None if side == -1 else int(side) for side in detail["shape_signature"]])


def _as_type(images, dtype: tf.DType) -> tf.Tensor:
    images = tf.convert_to_tensor(images)
    return tf.cast(tf.round(images), dtype) if dtype.is_integer else tf.cast(images, dtype)


def _only_image(shapes: dict[str, tf.TensorShape], argument: str) -> str:
    """The name of the one input, which must be images."""
    if len(shapes) != 1 or (shape := next(iter(shapes.values()))).rank != 4 or shape[3] != 3:
        raise InputError(f"{argument} must take one batch of images [N,H,W,3]; it takes {shapes}.")
    return next(iter(shapes))


def _scores_name(outputs: dict[str, tf.TensorSpec], argument: str) -> str:
    """The name of the output with a score for each class: probabilities, logits, or the only one."""
    for name in ("probabilities", "logits"):
        if name in outputs:
            return name
    if len(outputs) != 1:
        raise InputError(f"{argument} must have an output named probabilities or logits; it has {sorted(outputs)}.")
    return next(iter(outputs))
