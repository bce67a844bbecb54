"""Exported networks as functions from images to scores, so that the same evaluation measures them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
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


def read(path: str | os.PathLike, threads: int | None = None) -> Exported:
    """Read a TFLite, ONNX or OpenVINO file by its ending.

    Args:
        path: the file, which ends in .tflite, .onnx or .xml.
        threads: threads of the runtime; by default one for each processor.

    Raises:
        ValueError: the file cannot be read, has another input or output, or its runtime is not installed.
    """
    return {".onnx": onnx, ".xml": openvino}.get(pathlib.Path(path).suffix, tflite)(path, threads)


def onnx(path: str | os.PathLike, threads: int | None = None) -> Exported:
    """Read an ONNX file that takes images [N,H,W,3].

    Args:
        path: the file.
        threads: threads of the runtime; by default one for each processor.

    Raises:
        ValueError: the file cannot be read, has another input or output, or ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("onnx requires the package onnxruntime, which the extra 'onnx' installs.") from error
    path = _existing(path, "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common class
        raise InputError(f"onnx must be an ONNX file; {str(path)!r} cannot be read: {_reason(error)}.") from error
    shapes = {tensor.name: _shape(tensor.shape) for tensor in session.get_inputs()}
    dtypes = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}
    outputs = {tensor.name: tf.TensorSpec(_shape(tensor.shape)) for tensor in session.get_outputs()}
    name = _input_name(shapes, "onnx", path)
    output = _scores_name(outputs, "onnx")
    dtype = dtypes.get(session.get_inputs()[0].type)
    if dtype is None:
        raise InputError(f"onnx must take uint8 or float32 images; {str(path)!r} takes {session.get_inputs()[0].type}.")

    def function(images: Any) -> np.ndarray:
        (values,) = session.run([output], {name: as_type(images, dtype)})
        return values

    return Exported(str(path), function, _size(shapes[name]), outputs[output].shape[-1], _from_logits(output))


def openvino(path: str | os.PathLike, threads: int | None = None) -> Exported:
    """Read an OpenVINO file that takes images [N,H,W,3]; it is computed in float32.

    Args:
        path: the .xml file, next to which is the .bin file.
        threads: threads of the runtime; by default one for each processor.

    Raises:
        ValueError: the file cannot be read, has another input or output, or OpenVINO is not installed.
    """
    try:
        import openvino as runtime
    except ImportError as error:
        raise InputError("openvino requires the package openvino, which the extra 'openvino' installs.") from error
    path = _existing(path, "openvino")
    options = {"INFERENCE_PRECISION_HINT": "f32"} | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
    try:
        network = runtime.Core().compile_model(str(path), "CPU", options)
    except RuntimeError as error:
        raise InputError(
            f"openvino must be an OpenVINO file; {str(path)!r} cannot be read: {_reason(error)}."
        ) from error
    shapes = {tensor.any_name: _partial(tensor) for tensor in network.inputs}
    outputs = {tensor.any_name: tf.TensorSpec(_partial(tensor)) for tensor in network.outputs}
    name = _input_name(shapes, "openvino", path)
    output = _scores_name(outputs, "openvino")
    dtype = np.uint8 if network.inputs[0].get_element_type() == runtime.Type.u8 else np.float32

    def function(images: Any) -> np.ndarray:
        return network({name: as_type(images, dtype)})[output]

    return Exported(str(path), function, _size(shapes[name]), outputs[output].shape[-1], _from_logits(output))


def _existing(path: str | os.PathLike, argument: str) -> pathlib.Path:
    """The path of a file, which must exist."""
    if pathlib.Path(path).is_dir():
        suffix = ".xml" if argument == "openvino" else f".{argument}"
        files = sorted(str(file) for file in pathlib.Path(path).glob(f"*{suffix}"))
        hint = f", which has {' and '.join(map(repr, files))}" if files else ""
        raise InputError(f"{argument} must be a file; {os.fspath(path)!r} is a folder{hint}.")
    if not pathlib.Path(path).is_file():
        raise InputError(f"{argument} must be an existing file; there is no {os.fspath(path)!r}.")
    return pathlib.Path(path)


def _reason(error: Exception) -> str:
    """The last line of a message, without the period at its end."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].rstrip(".!")


def _input_name(shapes: Mapping[str, tf.TensorShape], argument: str, path: pathlib.Path) -> str:
    """The name of the one input, which must be a batch of images."""
    if not _takes_images({name: tf.TensorSpec(shape) for name, shape in shapes.items()}):
        raise InputError(f"{argument} must take one batch of images [N,H,W,3]; {str(path)!r} takes {list(shapes)}.")
    return next(iter(shapes))


def _partial(tensor: Any) -> tf.TensorShape:
    """The shape of an OpenVINO tensor."""
    shape = tensor.get_partial_shape()
    return _shape([-1 if side.is_dynamic else side.get_length() for side in shape])


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
    path = _existing(path, "tflite")
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads or os.cpu_count())
    except ValueError as error:
        raise InputError(f"tflite must be a TFLite file; {str(path)!r} cannot be read: {_reason(error)}.") from error
    inputs = {tensor["name"]: tensor for tensor in interpreter.get_input_details()}
    shapes = {name: _shape(tensor["shape_signature"]) for name, tensor in inputs.items()}
    source = inputs[_input_name(shapes, "tflite", path)]
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
    return Exported(str(path), function, _size(shapes[source["name"]]), int(target["shape"][-1]), from_logits)


def _shape(sides: Sequence[Any] | np.ndarray) -> tf.TensorShape:
    """The shape of a tensor; a side that is -1 or no number is unknown."""
    known = [isinstance(side, (int, np.integer)) and side != -1 for side in sides]
    return tf.TensorShape([int(side) if is_known else None for side, is_known in zip(sides, known, strict=True)])


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
