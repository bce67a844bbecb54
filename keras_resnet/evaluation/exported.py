"""Exported networks as functions from images to scores, so that the same evaluation measures them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet.errors import InputError

SAVED_MODEL = "saved_model.pb"
"""File by which the folder of a SavedModel is recognized."""


@dataclasses.dataclass(frozen=True)
class Exported:
    """An exported network.

    Attributes:
        name: the file or folder.
        function: images f32 or u8[B,H,W,3] in [0, 255] -> scores f32[B,K]; a network of integers gets rounded pixels.
        size: height and width of its input; None if it takes whole images of any size and crops them itself.
        classes: number of scores; None if unknown.
        from_logits: whether its scores are logits or probabilities; None if unknown.
    """

    name: str
    function: Callable[[Any], np.ndarray]
    size: tuple[int, int] | None
    classes: int | None
    from_logits: bool | None


def saved_model(path: str | os.PathLike) -> Exported:
    """Read a SavedModel with a signature whose one input is images [N,H,W,3]: `images`, or else `serving_default`.

    Args:
        path: its folder, or the folder of numbered versions, of which the newest is read.

    Raises:
        ValueError: there is no SavedModel, or its signatures have other inputs or outputs.
    """
    path = pathlib.Path(path)
    if not (path / SAVED_MODEL).is_file():
        versions = [folder for folder in path.glob("*") if folder.name.isdigit() and (folder / SAVED_MODEL).is_file()]
        if not versions:
            raise InputError(f"saved_model must be the folder of a SavedModel; {str(path)!r} is not.")
        path = max(versions, key=lambda folder: int(folder.name))
    loaded = tf.saved_model.load(str(path))
    inputs = {name: signature.structured_input_signature[1] for name, signature in loaded.signatures.items()}
    chosen = next((name for name in ("images", "serving_default") if _takes_images(inputs.get(name))), None)
    if chosen is None:
        raise InputError(
            "saved_model must have a signature images or serving_default whose one input is images [N,H,W,3]; it has "
            f"{', '.join(sorted(inputs)) or 'none'}."
        )
    signature = loaded.signatures[chosen]
    ((name, spec),) = inputs[chosen].items()
    output = _scores_name(signature.structured_outputs, "saved_model")

    def function(images: Any) -> np.ndarray:
        # A signature does not hold its variables: `loaded` must live as long.
        function.loaded = loaded  # type: ignore[attr-defined]
        pixels = tf.constant(as_type(images, spec.dtype.as_numpy_dtype))
        return signature(**{name: pixels})[output].numpy()

    classes = signature.structured_outputs[output].shape[-1]
    return Exported(str(path), function, _size(spec.shape), classes, _from_logits(output))


def tflite(path: str | os.PathLike, threads: int | None = None) -> Exported:
    """Read a TFLite file that takes images [N,H,W,3]; quantized scores are scaled back to f32.

    Args:
        path: the file.
        threads: threads of the interpreter; by default one for each processor.

    Raises:
        ValueError: the file cannot be read, has another input or output, or LiteRT is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise InputError("tflite requires the package ai-edge-litert, which the extra 'tflite' installs.") from error
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"tflite must be an existing file; there is no {str(path)!r}.")
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads or os.cpu_count())
    except ValueError as error:
        raise InputError(f"tflite must be a TFLite file; {str(path)!r} cannot be read: {error}.") from error
    inputs = {tensor["name"]: tensor for tensor in interpreter.get_input_details()}
    if not _takes_images({name: tf.TensorSpec(_shape(tensor)) for name, tensor in inputs.items()}):
        raise InputError(f"tflite must take one batch of images [N,H,W,3]; {str(path)!r} takes {list(inputs)}.")
    (source,) = inputs.values()
    if source["dtype"] not in (np.uint8, np.float32):
        raise InputError(f"tflite must take uint8 or float32 images; {str(path)!r} takes {source['dtype'].__name__}.")
    outputs = interpreter.get_output_details()
    if len(outputs) != 1:
        names = [tensor["name"] for tensor in outputs]
        raise InputError(f"tflite must have one output with a score for each class; {str(path)!r} has {names}.")
    (target,) = outputs
    interpreter.allocate_tensors()
    allocated = int(source["shape"][0])
    fixed = int(source["shape_signature"][0]) or 1  # -1 for any batch size

    def run(images: np.ndarray) -> np.ndarray:
        nonlocal allocated
        if len(images) != allocated:
            interpreter.resize_tensor_input(source["index"], [len(images), *images.shape[1:]])
            interpreter.allocate_tensors()
            allocated = len(images)
        interpreter.set_tensor(source["index"], images)
        interpreter.invoke()
        values = interpreter.get_tensor(target["index"])
        if values.dtype != np.float32:
            scale, zero = target["quantization"]
            values = np.float32(scale) * (values.astype("float32") - zero)
        return values

    def function(images: Any) -> np.ndarray:
        pixels = as_type(images, source["dtype"])
        if fixed == -1 or len(pixels) == fixed:
            return run(pixels)
        padded = np.resize(pixels, (-(-len(pixels) // fixed) * fixed, *pixels.shape[1:]))
        return np.concatenate([run(part) for part in np.split(padded, len(padded) // fixed)])[: len(pixels)]

    names = [name for signature in interpreter.get_signature_list().values() for name in signature["outputs"]]
    from_logits = _from_logits(names[0]) if len(names) == 1 else None
    return Exported(str(path), function, _size(_shape(source)), int(target["shape"][-1]), from_logits)


def _shape(tensor: Mapping[str, Any]) -> tf.TensorShape:
    """The shape of a TFLite tensor; a side of -1 is unknown."""
    return tf.TensorShape([None if side == -1 else int(side) for side in tensor["shape_signature"]])


def as_type(images: Any, dtype: Any) -> np.ndarray:
    """Convert images to a dtype; integers are rounded and clipped."""
    images, dtype = np.asarray(images), np.dtype(dtype)
    if images.dtype == dtype:
        return images
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        images = np.clip(np.rint(images), limits.min, limits.max)
    return images.astype(dtype)


def _takes_images(inputs: Mapping[str, tf.TensorSpec] | None) -> bool:
    """Whether there is one input, a batch of RGB images."""
    if inputs is None or len(inputs) != 1:
        return False
    shape = next(iter(inputs.values())).shape
    return shape.rank == 4 and shape[3] == 3


def _size(shape: tf.TensorShape) -> tuple[int, int] | None:
    return None if None in shape[1:3] else tuple(shape[1:3])


def _from_logits(output: str) -> bool | None:
    """Whether the name of an output says that it is logits or probabilities."""
    return {"probabilities": False, "logits": True}.get(output)


def _scores_name(outputs: Mapping[str, tf.TensorSpec], argument: str) -> str:
    """The name of the output with a score for each class: probabilities, logits, or the only output."""
    for name in ("probabilities", "logits"):
        if name in outputs:
            return name
    if len(outputs) != 1:
        raise InputError(f"{argument} must have an output named probabilities or logits; it has {sorted(outputs)}.")
    return next(iter(outputs))
