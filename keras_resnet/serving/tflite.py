"""TFLite files for phones and embedded devices: built-in operators, normalization included, compared on a data set.

    out/resnet20_float32.tflite   weights and computation in float32
    out/resnet20_float16.tflite   weights in float16: half the size
    out/resnet20_dynamic.tflite   weights in int8, activations in float32 ("dynamic range")
    out/resnet20_int8.tflite      weights and activations in int8, calibrated on training images; uint8 input and output
                                  for a network that was trained for int8: as it was trained, without calibration
    out/report.md, report.json, report.png

Each maps `images` u8[B,H,W,3], RGB at the network's size, to `probabilities` [B,K]; B is 1 by default.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import files
from keras_resnet.data import pipeline
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.transforms import EvalTransform
from keras_resnet.errors import InputError, check_choice, counted
from keras_resnet.ops import image
from keras_resnet.quantization.integer import is_integer
from keras_resnet.serving import conversion, folding, integer, metadata, report
from keras_resnet.serving.signatures import Endpoint
from keras_resnet.serving.source import ServableClassifier

VARIANTS = ("float32", "float16", "dynamic", "int8")

POST_TRAINING = "post_training_int8"
"""int8 by calibration, of a network that was trained for int8: `int8` then is as it was trained."""

ALL_VARIANTS = (*VARIANTS, POST_TRAINING)
"""The variants of a network that was trained for int8."""

CALIBRATION_IMAGES = 256
"""Number of images for calibration, if there are as many."""

FEWEST_CALIBRATION_IMAGES = 20
"""With fewer images, the ranges of activations are unreliable, which is logged."""

logger = logging.getLogger(__name__)


def check(out: pathlib.Path, variants: Sequence[str]) -> None:
    """Raise `InputError` unless TFLite files of these variants can be written to the new folder `out`."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise InputError("TFLite files need the package ai-edge-litert: pip install 'keras-resnet-zoo[tflite]'.")
    files.check_new(out)
    for variant in variants:
        check_choice("variants", variant, ALL_VARIANTS)
    if not variants:
        raise InputError(f"variants must be some of {', '.join(VARIANTS)}; got none.")


def export(
    source: ServableClassifier,
    out: str | os.PathLike,
    *,
    variants: Sequence[str] = VARIANTS,
    dataset: Dataset | None = None,
    calibration_split: str = "train",
    calibration_images: int | None = None,
    report_split: str | None = None,
    report_images: int = 0,
    batch_size: int | None = 1,
    threads: int = 2,
) -> pathlib.Path:
    """Write TFLite files of a trained network, and a report of accuracy, size and latency compared with the network.

    The folder appears by one rename, when it is complete.

    Args:
        source: the trained network, such as a `ClassifierRun`.
        out: folder to create; it must not exist.
        variants: some of `VARIANTS`, or of `ALL_VARIANTS` for a network that was trained for int8.
        dataset: images for calibration and report; required for int8 and for a report.
        calibration_split: split on whose images int8 is calibrated.
        calibration_images: number of them, spread evenly over the split; by default 256, or as many as there are.
        report_split: split of the report's images; None for no report.
        report_images: number of them, spread evenly over the split; 0 for all.
        batch_size: images in a call; None for any number, with which interpreters may be slower.
        threads: threads of the interpreter in the report.

    Returns:
        The folder `out`.

    Raises:
        ValueError: the source has no weights, `out` exists or cannot be written, too few images, or an argument is
            not allowed.
    """
    out = pathlib.Path(out).absolute()
    check(out, variants)
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size must be at least 1, or None for any number; got {batch_size}.")
    images, outputs = report.choose_images(source, dataset, report_split, report_images)
    name, model = source.config.model, source.load()
    trained = is_integer(model)
    transform = EvalTransform.unnormalized(source.photo_transform())
    calibration = None
    if needs_calibration(variants, trained):
        calibration = calibrate(dataset, calibration_split, calibration_images, transform)

    with files.new_folder(out) as folder:
        paths = write(source, model, folder, variants, calibration, batch_size)
        if images:
            rows = report.measure(
                model, source.mean, source.std, paths, images, transform, threads, outputs, batch_size or 1
            )
            report.write(rows, folder, f"{name} on {images.info.name} {report_split}", threads)
    return out


def write(
    source: ServableClassifier,
    model: keras.Model,
    folder: pathlib.Path,
    variants: Sequence[str],
    calibration: Sequence[np.ndarray] | None = None,
    batch_size: int | None = 1,
) -> dict[str, pathlib.Path]:
    """Write TFLite files with their metadata to a folder: variant -> file.

    Args:
        source: the trained network.
        model: its model.
        folder: the folder.
        variants: some of `VARIANTS`, or of `ALL_VARIANTS` for a network that was trained for int8.
        calibration: the images of `calibrate`, for int8.
        batch_size: images in a call; None for any number.
    """
    name, info, transform = source.config.model, source.dataset_info, source.photo_transform()
    trained = is_integer(model)
    converted = [variant for variant in variants if not (trained and variant == "int8")]
    folded = folding.fold(source.load_float() if trained else model) if converted else model
    paths = {variant: folder / f"{name}_{variant}.tflite" for variant in variants}
    for variant, path in paths.items():
        if variant in converted:
            method = "int8" if variant == POST_TRAINING else variant
            content = convert(folded, source.mean, source.std, method, calibration, batch_size)
        else:
            content = integer.convert(model, batch_size)
        description = f"{name} for {files.without_folders(info.name)}, {len(info.class_names)} classes, {variant}"
        preprocessing = metadata.preprocessing(transform)
        path.write_bytes(metadata.add(content, name, description, info.class_names, transform.size, preprocessing))
    return paths


def needs_calibration(variants: Sequence[str], trained: bool) -> bool:
    """Return whether one of some variants is calibrated on images.

    Args:
        variants: some of `ALL_VARIANTS`.
        trained: whether the network was trained for int8.

    Raises:
        ValueError: a variant is only that of a network that was trained for int8.
    """
    if POST_TRAINING in variants and not trained:
        raise InputError(f"variants must be some of {', '.join(VARIANTS)} for a run without quantize.")
    return (POST_TRAINING if trained else "int8") in variants


def convert(
    model: keras.Model,
    mean: Any,
    std: Any,
    variant: str,
    calibration: Sequence[np.ndarray] | None = None,
    batch_size: int | None = 1,
) -> bytes:
    """Convert a network to a TFLite file.

    Args:
        model: f32[N,H,W,3] normalized -> probabilities f32[N,K]; fold its batch norms first for speed.
        mean: mean of each channel or pixel, in [0, 255].
        std: standard deviation of each channel.
        variant: one of `VARIANTS`.
        calibration: images f32[1,H,W,3] in [0, 255] for int8.
        batch_size: images in a call; None for any number.

    Returns:
        The file's content: `images` u8[N,H,W,3] -> `probabilities` f32[N,K], or u8[N,K] in steps of 1/256 for int8.
    """
    # For int8 the converter creates the uint8 input itself, from the calibrated ranges.
    dtype = tf.float32 if variant == "int8" else tf.uint8
    spec = tf.TensorSpec([batch_size, *model.input_shape[1:]], dtype, name="images")
    folded = variant == "int8" and np.ndim(mean) == 1
    if folded:
        model = folding.fold_normalization(model, mean, std)

    def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels = images if folded else image.normalize(images, mean, std)
        return {"probabilities": model(pixels, training=False)}

    def configure(converter: tf.lite.TFLiteConverter) -> None:
        if variant != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if variant == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if variant == "int8":
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.uint8
            count = batch_size or 1
            samples = [{"images": np.repeat(pixels, count, 0)} for pixels in calibration or ()]
            converter.representative_dataset = lambda: iter(samples)

    return conversion.convert(model, Endpoint(predict, spec), configure)


def calibrate(dataset: Dataset | None, split: str, count: int | None, transform: EvalTransform) -> list[np.ndarray]:
    """Return the images that int8 is calibrated on, each f32[1,H,W,3] in [0, 255], from the evaluation pipeline.

    Args:
        dataset: the data set; None is an error.
        split: its split.
        count: number of images, spread evenly over the split; None for `CALIBRATION_IMAGES`, or as many as there are.
        transform: the test transform without normalization.

    Raises:
        ValueError: there is no data set or split, or it has fewer images.
    """
    if dataset is None:
        raise InputError("dataset must be given for the calibration of int8; got None.")
    available = dataset.count(split, "calibration_split")
    count = min(CALIBRATION_IMAGES, available) if count is None else count
    if not 1 <= count <= available:
        raise InputError(f"calibration_images must be from 1 to the {available} images of {split!r}; got {count}.")
    if count < FEWEST_CALIBRATION_IMAGES:
        logger.warning(
            "int8 is calibrated on %s of %r only: below %d, the ranges of activations are unreliable",
            counted(count, "image"),
            split,
            FEWEST_CALIBRATION_IMAGES,
        )
    batches = pipeline.evaluate(dataset.sample(split, count), 1, transform, split="picked")
    images = [np.array(batch[0]) for batch in batches]
    # Two pixels extend the input's range to [0, 255], so that its uint8 values are the pixels themselves.
    images[0][0, 0, :2] = [[0], [255]]
    return images
