"""ONNX and OpenVINO files of classifiers: any batch size, normalization included, checked and compared on a data set.

    out/resnet20.onnx                       for ONNX Runtime and the tools that read ONNX
    out/resnet20.xml and resnet20.bin       for OpenVINO
    out/labels.txt, preprocessing.json      the class names, one a line, and how a photo becomes the input
    out/report.md, report.json, report.png

Each maps `images` u8[B,H,W,3], RGB at the network's size, to `probabilities` f32[B,K], as the SavedModel's signature.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import files
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.transforms import EvalTransform
from keras_resnet.errors import InputError, check_choice
from keras_resnet.evaluation import exported
from keras_resnet.ops import image
from keras_resnet.quantization.integer import is_integer
from keras_resnet.serving import folding, metadata, qdq, report, saved_model
from keras_resnet.serving.signatures import Endpoint
from keras_resnet.serving.source import ServableClassifier

REQUIRED = {"onnx": ("tf2onnx", "onnxruntime"), "openvino": ("openvino",)}
"""Format -> the packages that it requires, which the extra of the same name installs."""

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
"""Format -> ending of the file."""

OPSET = 17
"""Version of ONNX's operators: of 2022, which all current runtimes read."""

TOLERANCE = 1e-4
"""Largest difference of a probability between the written file and the network."""

INTEGER_TOLERANCE = 0.02
"""Largest mean difference of the probabilities of an integer network, whose additions a runtime may round otherwise."""

CHECKED_BATCHES = (1, 2, 7)
"""Batch sizes with which a written file is compared with the network."""


def export(
    source: ServableClassifier,
    out: str | os.PathLike,
    format: str,
    *,
    dataset: Dataset | None = None,
    report_split: str | None = None,
    report_images: int = 0,
    threads: int = 2,
) -> pathlib.Path:
    """Write the file of a trained network, and a report of accuracy, size and latency compared with the network.

    The folder appears by one rename, when it is complete.

    Args:
        source: the trained network, such as a `ClassifierRun`.
        out: folder to create; it must not exist.
        format: "onnx" or "openvino".
        dataset: images for the report.
        report_split: split of the report's images; None for no report.
        report_images: number of them, spread evenly over the split; 0 for all.
        threads: threads of the runtime in the report.

    Returns:
        The folder `out`.

    Raises:
        ValueError: an argument is not allowed, a package is missing, `out` exists or cannot be written, or the written
            file does not give the network's probabilities to 1e-4 (those of an integer network to 0.02 on average).
    """
    out = pathlib.Path(out).absolute()
    check(out, format)
    images, outputs = report.choose_images(source, dataset, report_split, report_images)
    transform = EvalTransform.unnormalized(source.photo_transform())
    name, model = source.config.model, source.load()
    with files.new_folder(out) as folder:
        path = folder / f"{name}{SUFFIXES[format]}"
        folded = folding.fold(model)  # in float32, also of networks that compute in half precision
        convert(folded, source.mean, source.std, path)
        _compare(path, folded, source.mean, source.std)
        described = metadata.texts(source.dataset_info.class_names, metadata.preprocessing(transform))
        for part, text in described.items():
            (folder / part).write_text(text, encoding="utf-8")
        if images:
            rows = report.measure(model, source.mean, source.std, {format: path}, images, transform, threads, outputs)
            report.write(rows, folder, f"{name} on {images.info.name} {report_split}", threads)
    return out


def check(out: pathlib.Path, format: str) -> None:
    """Raise `InputError` unless files of a format can be written to the new folder `out`."""
    check_choice("format", format, SUFFIXES)
    if missing := [package for package in REQUIRED[format] if importlib.util.find_spec(package) is None]:
        names = " and ".join(missing)
        raise InputError(f"format {format!r} requires {names}: pip install 'keras-resnet-zoo[{format}]'.")
    files.check_new(out)


def convert(model: keras.Model, mean: Any, std: Any, path: pathlib.Path) -> None:
    """Convert a network; an integer network becomes int8 operators in ONNX, and float32 arithmetic in OpenVINO.

    Args:
        model: f32[B,H,W,3] normalized -> probabilities f32[B,K]; fold its batch norms first for speed.
        mean: mean of each channel or pixel, in [0, 255].
        std: standard deviation of each channel.
        path: the file, which ends in .onnx or .xml; next to the latter, the weights are written to .bin.
    """
    if path.suffix == SUFFIXES["onnx"] and is_integer(model):
        path.write_bytes(qdq.convert(model, OPSET))
        return
    spec = tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8, name="images")

    def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": model(image.normalize(images, mean, std), training=False)}

    if path.suffix == SUFFIXES["onnx"]:
        import tf2onnx

        function = tf.function(predict, input_signature=[spec])
        network, _ = tf2onnx.convert.from_function(function, [spec], opset=OPSET)
        path.write_bytes(network.SerializeToString())
        return
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        saved_model.write(model, {"serving_default": Endpoint(predict, spec)}, pathlib.Path(folder))
        openvino.save_model(openvino.convert_model(folder), str(path), compress_to_fp16=False)


def _compare(path: pathlib.Path, model: keras.Model, mean: Any, std: Any) -> None:
    """Compare the written file with the network on random images."""
    function: Callable[[Any], np.ndarray] = exported.read(path).function
    tolerance, reduce = (INTEGER_TOLERANCE, np.mean) if is_integer(model) else (TOLERANCE, np.max)
    random = np.random.default_rng(0)
    for count in CHECKED_BATCHES:
        pixels = random.integers(0, 256, (count, *model.input_shape[1:])).astype("uint8")
        expected = model.predict_on_batch(image.normalize(tf.constant(pixels), mean, std))
        difference = float(reduce(np.abs(function(pixels) - expected)))
        if not difference <= tolerance:
            raise InputError(
                f"the written {path.name} must give the network's probabilities to {tolerance}; with {count} images it "
                f"differs by {difference:.2g}, so the runtime does not suit this network."
            )
