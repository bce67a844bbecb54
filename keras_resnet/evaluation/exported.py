"""SavedModels and TFLite files as plain functions from images to scores, so that the same evaluation measures them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_resnet.errors import InputError

SAVED_MODEL = "saved_model.pb"


@dataclasses.dataclass(frozen=True)
class Exported:
    """An exported network.

    Attributes:
        name: the file or folder.
        function: f32[B,H,W,3] in [0, 255] -> scores f32[B,K]; values are rounded for a network that takes integers.
        size: height and width of its input; None where it takes whole images of any size and crops them itself.
        classes: number of scores; None where the file does not say.
        from_logits: whether its scores are logits or probabilities; None where the file does not say.
    """

    name: str
    function: Callable[[np.ndarray], np.ndarray]
    size: tuple[int, int] | None
    classes: int | None
    from_logits: bool | None


def saved_model(path: str | os.PathLike) -> Exported:
    """Read a SavedModel with a signature whose one input is images [N,H,W,3]: `images`, or else `serving_default`.

    Args:
        path: its folder, or one with numbered versions, of which the newest is taken.

    Raises:
        ValueError: there is none, or its signatures have other inputs or outputs.
    """
    path = pathlib.Path(path)
    if not (path / SAVED_MODEL).is_file():
        versions = [folder for folder in path.glob("*") if folder.name.isdigit() and (folder / SAVED_MODEL).is_file()]
        if not versions:
            raise InputError(f"saved_model must be the folder of a SavedModel; {str(path)!r} is not.")
        path = max(versions, key=lambda folder: int(folder.name))
    loaded = tf.saved_model.load(str(path))
    inputs = {name: signature.structured_input_signature[1] for name, signature in loaded.signatures.items()}
    found = next((name for name in ("images", "serving_default") if _takes_images(inputs.get(name))), None)
    if found is None:
        raise InputError(
            "saved_model must have a signature images or serving_default whose one input is images [N,H,W,3]; it has "
            f"{', '.join(sorted(inputs)) or 'none'}."
        )
    signature = loaded.signatures[found]
    ((name, spec),) = inputs[found].items()
    output = _scores_name(signature.structured_outputs, "saved_model")

    def function(images):
        # `loaded` must live as long as its signature, which does not hold its variables.
        function.keep = loaded
        return signature(**{name: _as_type(images, spec.dtype)})[output].numpy()

    classes = signature.structured_outputs[output].shape[-1]
    return Exported(str(path), function, _size(spec.shape), classes, _from_logits(output))


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
    details = {detail["name"]: detail for detail in interpreter.get_input_details()}
    if not _takes_images({name: tf.TensorSpec(_shape(detail)) for name, detail in details.items()}):
        raise InputError(f"tflite must take one batch of images [N,H,W,3]; {str(path)!r} takes {list(details)}.")
    (entry,) = details.values()
    signature = tuple(entry["shape_signature"])
    if entry["dtype"] not in (np.uint8, np.float32):
        raise InputError(f"tflite must take uint8 or float32 images; {str(path)!r} takes {entry['dtype'].__name__}.")
    exits = interpreter.get_output_details()
    if len(exits) != 1:
        names = [detail["name"] for detail in exits]
        raise InputError(f"tflite must have one output with a score for each class; {str(path)!r} has {names}.")
    (exit_,) = exits
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
        filled = np.resize(images, (-(-len(images) // fixed) * fixed, *images.shape[1:]))
        return np.concatenate([run(part) for part in np.split(filled, len(filled) // fixed)])[: len(images)]

    outputs = [name for one in interpreter.get_signature_list().values() for name in one["outputs"]]
    logits = _from_logits(outputs[0]) if len(outputs) == 1 else None
    return Exported(str(path), function, _size(_shape(entry)), int(exit_["shape"][-1]), logits)


def _shape(detail: dict) -> tf.TensorShape:
    """The shape of a TFLite tensor, whose -1 means any."""
    return tf.TensorShape([None if side == -1 else int(side) for side in detail["shape_signature"]])


def _as_type(images, dtype: tf.DType) -> tf.Tensor:
    images = tf.convert_to_tensor(images)
    return tf.cast(tf.round(images), dtype) if dtype.is_integer else tf.cast(images, dtype)


def _takes_images(inputs: dict[str, tf.TensorSpec] | None) -> bool:
    """Whether there is one input, and it is a batch of RGB images."""
    if inputs is None or len(inputs) != 1:
        return False
    shape = next(iter(inputs.values())).shape
    return shape.rank == 4 and shape[3] == 3


def _size(shape: tf.TensorShape) -> tuple[int, int] | None:
    return None if None in shape[1:3] else tuple(shape[1:3])


def _from_logits(output: str) -> bool | None:
    return {"probabilities": False, "logits": True}.get(output)


def _scores_name(outputs: dict[str, tf.TensorSpec], argument: str) -> str:
    """The name of the output with a score for each class: probabilities, logits, or the only one."""
    for name in ("probabilities", "logits"):
        if name in outputs:
            return name
    if len(outputs) != 1:
        raise InputError(f"{argument} must have an output named probabilities or logits; it has {sorted(outputs)}.")
    return next(iter(outputs))
