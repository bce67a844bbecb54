"""TFLite files of segmentation networks for images of one size, and a report of their mean IoU, size and latency.

    out/NAME_float32.tflite, NAME_float16.tflite, NAME_dynamic.tflite, NAME_int8.tflite
    out/report.md, report.json

Each maps `images` u8[1,H,W,3] to `probabilities` [1,H,W,K] and contains the normalization; see `serving.tflite`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import files
from keras_resnet.errors import InputError, counted
from keras_resnet.evaluation import exported
from keras_resnet.evaluation.report import markdown_table
from keras_resnet.models.submodels import deep_recursion
from keras_resnet.ops import image
from keras_resnet.segmentation import metrics, models
from keras_resnet.segmentation.evaluate import Batch, Normalization
from keras_resnet.segmentation.metrics import Result
from keras_resnet.serving import folding, metadata, report, tflite

VARIANTS = tflite.VARIANTS


@dataclasses.dataclass(frozen=True)
class Row:
    """One network of the report.

    Attributes:
        variant: "original" for the network itself, run by TensorFlow.
        mean_iou: in percent, at the images' own sizes.
        pixel_accuracy: in percent.
        agreement: percentage of the pixels with the same best class as the original.
        megabytes: size of the file in 10^6 bytes; for the original, of its weights.
        milliseconds: median time of an image over rounds in which the networks take turns.
        fastest: milliseconds in the fastest round.
        slowest: milliseconds in the slowest round.
        images: number of images.
    """

    variant: str
    mean_iou: float
    pixel_accuracy: float
    agreement: float
    megabytes: float
    milliseconds: float
    fastest: float
    slowest: float
    images: int


def export(
    model: keras.Model,
    out: str | os.PathLike,
    normalization: Normalization,
    class_names: Sequence[str],
    *,
    size: Sequence[int],
    name: str = "segmenter",
    variants: Sequence[str] = VARIANTS,
    calibration: Iterable[np.ndarray] | None = None,
    batches: Iterable[Batch] | None = None,
    threads: int = 2,
    exif: bool = False,
) -> pathlib.Path:
    """Write TFLite files of a segmentation network, and a report that compares them with the network.

    The folder appears by one rename, when it is complete.

    Args:
        model: a float32 model of `segmentation.models`.
        out: folder to create; it must not exist.
        normalization: mean and standard deviation of the images, which become part of the files.
        class_names: names of the K classes.
        size: height and width of the input, to which photos are resized as a whole.
        name: beginning of the file names.
        variants: some of `VARIANTS`.
        calibration: images [B,H,W,3] in [0, 255] of any sizes, for the ranges of int8; required for it.
        batches: images in [0, 255] with labels for the report, not normalized; None for no report.
        threads: threads of the interpreter in the report.
        exif: whether photos are rotated by their EXIF orientation, for the metadata.

    Returns:
        The folder `out`.

    Raises:
        ValueError: `out` exists or cannot be written, there are no images for calibration, or an argument is not
            allowed.
    """
    out = pathlib.Path(out).absolute()
    tflite.check(out, variants)
    if len(size) != 2 or min(size) < 32:
        raise InputError(f"size must be a height and a width of at least 32 pixels; got {list(size)}.")
    samples = _calibration(calibration, size) if "int8" in variants else None
    network = with_probabilities(model, size)
    folded = folding.fold(network)
    mean, std = tuple(normalization.mean), tuple(normalization.std)
    preprocessing = {
        "color": metadata.COLOR,
        "resize": list(size),
        "resize_method": metadata.RESIZE_METHOD,
        "exif_orientation": "applied" if exif else "ignored",
    }
    with files.new_folder(out) as folder:
        paths = {variant: folder / f"{name}_{variant}.tflite" for variant in variants}
        for variant, path in paths.items():
            content = tflite.convert(folded, mean, std, variant, samples)
            description = f"{name}, a label for every pixel, {len(class_names)} classes, {variant}"
            path.write_bytes(metadata.add(content, name, description, class_names, size, preprocessing))
        if batches is not None:
            rows = measure(network, normalization, paths, batches, class_names, threads)
            write_report(rows, folder, f"{name} at {size[0]}x{size[1]}", threads)
    return out


def with_probabilities(model: keras.Model, size: Sequence[int]) -> keras.Model:
    """Copy a network for images of one size, with a softmax: f32[B,H,W,3] -> probabilities f32[B,H,W,K].

    Args:
        model: a model of `segmentation.models`.
        size: height and width.
    """
    model = models.inference_model(model)
    with deep_recursion(len(model.layers)):
        images = keras.Input((*size, model.input_shape[-1]), name="inputs")
        copy = keras.models.clone_model(model, input_tensors=images)
        copy.set_weights(model.get_weights())
        probabilities = keras.layers.Softmax(name="probabilities", dtype="float32")(copy.outputs[0])
        return keras.Model(copy.inputs, probabilities, name=model.name)


def _calibration(images: Iterable[np.ndarray] | None, size: Sequence[int]) -> list[np.ndarray]:
    """Images f32[1,H,W,3] of the network's size, in [0, 255]."""
    samples = [resized(part[None], size) for batch in images or () for part in np.asarray(batch, "float32")]
    if not samples:
        raise InputError("calibration must have at least one image for int8; it has none.")
    # Two pixels extend the input's range to [0, 255], so that its uint8 values are the pixels themselves.
    samples[0][0, 0, :2] = [[0], [255]]
    return samples


def resized(images: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize images f32[B,H,W,3] as a whole by antialiased bilinear interpolation; a copy if they have the size."""
    if tuple(images.shape[1:3]) == tuple(size):
        return images.copy()
    return tf.image.resize(images, tuple(size), antialias=True).numpy()


def measure(
    network: keras.Model,
    normalization: Normalization,
    paths: Mapping[str, pathlib.Path],
    batches: Iterable[Batch],
    class_names: Sequence[str],
    threads: int = 2,
) -> list[Row]:
    """Evaluate and time a network and its TFLite files on the same pixels, at the images' own sizes.

    Args:
        network: the result of `with_probabilities`.
        normalization: mean and standard deviation of the images.
        paths: variant -> TFLite file.
        batches: images in [0, 255] with labels.
        class_names: names of the classes.
        threads: threads of the interpreter.

    Returns:
        A row for the network and one for each file.

    Raises:
        ValueError: there are no images.
    """
    classes, size = len(class_names), network.input_shape[1:3]
    mean, std = tuple(normalization.mean), tuple(normalization.std)

    @tf.function(input_signature=[tf.TensorSpec([None, *size, 3], tf.uint8)])
    def original(pixels: tf.Tensor) -> tf.Tensor:
        return network(image.normalize(pixels, mean, std), training=False)

    functions: dict[str, Callable[[np.ndarray], Any]] = {"original": original}
    functions |= {variant: exported.tflite(path, threads).function for variant, path in paths.items()}
    confusions = {variant: np.zeros((classes, classes), "int64") for variant in functions}
    same, pixels_seen, images_seen = dict.fromkeys(functions, 0), 0, 0
    pixels = None
    for _, images, labels in batches:
        images, labels = np.asarray(images, "float32"), np.asarray(labels)
        pixels = exported.as_type(resized(images, size), "uint8")
        images_seen, pixels_seen = images_seen + len(labels), pixels_seen + labels.size
        best: dict[str, np.ndarray] = {}
        for variant, function in functions.items():
            probabilities = tf.image.resize(function(pixels), labels.shape[1:])
            best[variant] = tf.argmax(probabilities, -1).numpy()
            confusions[variant] += metrics.confusion_matrix(labels, best[variant], classes)
            same[variant] += int((best[variant] == best["original"]).sum())
    if pixels is None:
        raise InputError("the report must have at least one image; it has none.")
    times = report.time_in_turns(
        {name: functools.partial(function, pixels[:1]) for name, function in functions.items()}
    )
    sizes = {"original": 4 * network.count_params()}
    sizes |= {variant: path.stat().st_size for variant, path in paths.items()}
    rows = []
    for variant in functions:
        result = Result(tuple(class_names), confusions[variant], images_seen)
        rows.append(
            Row(
                variant=variant,
                mean_iou=result.mean_iou,
                pixel_accuracy=result.pixel_accuracy,
                agreement=100 * same[variant] / pixels_seen,
                megabytes=sizes[variant] / 1e6,
                milliseconds=float(np.median(times[variant])),
                fastest=min(times[variant]),
                slowest=max(times[variant]),
                images=images_seen,
            )
        )
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    cells = (
        (
            row.variant,
            f"{row.mean_iou:.2f}",
            f"{row.pixel_accuracy:.2f}",
            f"{row.agreement:.2f}",
            f"{row.megabytes:.2f}",
            f"{row.milliseconds:.1f} ({row.fastest:.1f}-{row.slowest:.1f})",
        )
        for row in rows
    )
    columns = ("mean IoU %", "pixel accuracy %", "same class %", "MB", "ms an image (range)")
    return markdown_table(("variant",), columns, cells)


def write_report(rows: Sequence[Row], folder: pathlib.Path, title: str, threads: int) -> None:
    """Write `report.md` and `report.json` to a folder."""
    runtimes = f"LiteRT with {threads} threads, the original with TensorFlow's own"
    text = (
        f"# {title}\n\n{counted(rows[0].images, 'image')}, measured at their own sizes; {runtimes}; medians of "
        f"{report.ROUNDS} rounds in which the variants take turns.\n\n{table(rows)}\n"
    )
    (folder / "report.md").write_text(text, encoding="utf-8")
    values = json.dumps([dataclasses.asdict(row) for row in rows], indent=2)
    (folder / "report.json").write_text(values + "\n", encoding="utf-8")
