"""Evaluate segmentation networks at the images' own sizes, and write reports with pictures of the worst images."""

from __future__ import annotations

import csv
import dataclasses
import heapq
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from keras_resnet import files
from keras_resnet.errors import InputError, counted
from keras_resnet.evaluation import figures
from keras_resnet.evaluation.report import markdown_table
from keras_resnet.segmentation import metrics, page, pictures
from keras_resnet.segmentation.inference import Predict
from keras_resnet.segmentation.metrics import Result

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Numbers of images in their split i64[B], normalized images f32[B,H,W,3] of one size, and labels u8[B,H,W]."""


class Normalization(Protocol):
    """The part of a transform that pictures need."""

    @property
    def mean(self) -> Sequence[float]:
        """Mean of each channel, in [0, 255]."""

    @property
    def std(self) -> Sequence[float]:
        """Standard deviation of each channel."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """An image with its true and its predicted labels.

    Attributes:
        index: number of the image in its split.
        pixels: u8[H,W,3].
        labels: true classes u8[H,W].
        predictions: predicted classes u8[H,W].
        mean_iou: mean IoU of this image in percent, over the classes that occur in it.
    """

    index: int
    pixels: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    mean_iou: float


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The measures of a split and its worst images.

    Attributes:
        result: the measures over all images.
        image_ious: mean IoU of each image in percent, over the classes that occur in it, f64[N] in the order of the
            split; NaN for images without labeled pixels.
        worst: the images with the lowest of these, the worst first.
    """

    result: Result
    image_ious: np.ndarray
    worst: tuple[Sample, ...]


def evaluate(
    predict: Predict,
    batches: Iterable[Batch],
    class_names: Sequence[str],
    normalization: Normalization,
    *,
    samples: int = 8,
    total: int | None = None,
    progress: bool = False,
) -> Evaluation:
    """Evaluate a function on a split, each image at its own size.

    Every image counts by its labeled pixels, so that the measures do not depend on the batches.

    Args:
        predict: function from images to probabilities, such as `inference.predictor` makes.
        batches: the split's images and labels.
        class_names: names of the K classes.
        normalization: mean and standard deviation of the images, to restore their pixels for pictures.
        samples: number of the worst images to return.
        total: number of images, for the progress bar.
        progress: whether to show a progress bar on a terminal.

    Raises:
        ValueError: there are no images, or a label or the number of probabilities does not fit the classes.
    """
    classes = len(class_names)
    confusion = np.zeros((classes, classes), "int64")
    scores: dict[int, float] = {}
    worst: list[tuple[float, int, Sample]] = []
    with tqdm(total=total, unit="image", disable=None if progress else True) as bar:
        for indices, images, labels in batches:
            images, labels = np.asarray(images), np.asarray(labels)
            predictions = classify(predict, images, classes)
            for row, index in enumerate(np.asarray(indices).tolist()):
                matrix = metrics.confusion_matrix(labels[row], predictions[row], classes)
                confusion += matrix
                scores[index] = score = 100 * metrics.mean_iou(matrix)
                bar.update()
                if np.isnan(score) or not samples:
                    continue
                if len(worst) < samples or (-score, -index) > worst[0][:2]:
                    pixels = restored(images[row], normalization)
                    sample = Sample(index, pixels, labels[row].copy(), predictions[row].copy(), score)
                    (heapq.heappush if len(worst) < samples else heapq.heapreplace)(worst, (-score, -index, sample))
    if not scores:
        raise InputError("the split must have at least one image; it has none.")
    ordered = tuple(sample for _, _, sample in sorted(worst, key=lambda item: item[:2], reverse=True))
    image_ious = np.array([scores[index] for index in sorted(scores)])
    return Evaluation(Result(tuple(class_names), confusion, len(scores)), image_ious, ordered)


def classify(predict: Predict, images: np.ndarray, classes: int) -> np.ndarray:
    """Return the most probable class of each pixel: f32[B,H,W,3] -> u8[B,H,W].

    Raises:
        ValueError: the probabilities are not those of the classes.
    """
    probabilities = predict(images)
    if probabilities.shape[-1] != classes:
        raise InputError(f"the network must have the {classes} classes of the data; it has {probabilities.shape[-1]}.")
    return probabilities.argmax(-1).astype("uint8")


def restored(image: np.ndarray, normalization: Normalization) -> np.ndarray:
    """Return the pixels u8[H,W,3] of a normalized image f32[H,W,3]."""
    pixels = image * np.asarray(normalization.std, "float32") + np.asarray(normalization.mean, "float32")
    return np.clip(np.rint(pixels), 0, 255).astype("uint8")


def write(
    out: str | os.PathLike,
    evaluation: Evaluation,
    names: Sequence[str],
    palette: np.ndarray,
    details: Mapping[str, Any],
) -> None:
    """Write `index.html`, `results.json`, `results.md`, `images.csv`, `legend.png`, `confusion.png` and `pictures`.

    The pictures show an image, the truth, the prediction and the errors side by side; the worst images come first.

    Args:
        out: folder to create; it must not exist, and appears when it is complete.
        evaluation: the evaluation of a split.
        names: names of the split's images, in its order.
        palette: colors of the classes u8[K,3].
        details: what else the files state about the evaluation.

    Raises:
        ValueError: `out` exists or cannot be written.
    """
    result = evaluation.result
    with files.new_folder(out) as folder:
        paths = _write_pictures(evaluation, names, palette, folder)
        pictures.legend(result.class_names, palette).save(folder / "legend.png")
        title = f"mean IoU {result.mean_iou:.2f} %"
        figures.confusion_counts(result.confusion, result.class_names, folder / "confusion.png", title, "pixels")
        with open(folder / "images.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "mean_iou"])
            rows = zip(names, evaluation.image_ious, strict=True)
            writer.writerows([name, "" if np.isnan(value) else f"{value:.2f}"] for name, value in rows)
        values = {**details, **result.to_dict()}
        (folder / "results.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        text = _markdown(evaluation, names, paths, details)
        (folder / "results.md").write_text(text, encoding="utf-8")
        page.write(folder, f"Evaluation: {title}", evaluation, names, palette, details)


def _write_pictures(
    evaluation: Evaluation, names: Sequence[str], palette: np.ndarray, folder: pathlib.Path
) -> list[str]:
    """Write the pictures and return their paths in the folder."""
    (folder / "pictures").mkdir()
    paths = []
    for rank, sample in enumerate(evaluation.worst, 1):
        name = re.sub(r"[^\w.-]+", "_", names[sample.index])
        paths.append(f"pictures/{rank}_{name}.png")
        picture = pictures.side_by_side(sample.pixels, sample.labels, sample.predictions, palette)
        picture.save(folder / paths[-1])
    return paths


def _markdown(evaluation: Evaluation, names: Sequence[str], paths: Sequence[str], details: Mapping[str, Any]) -> str:
    result = evaluation.result
    parts = [
        "# Evaluation",
        "\n".join(f"- {name}: {value}" for name, value in details.items()),
        f"{counted(result.images, 'image')}, each at its own size.",
        result.table(),
        "IoU is empty for classes that occur neither in the truth nor in the predictions, and accuracy for classes "
        "that do not occur in the truth; the means leave them out.",
        "![confusion of pixels](confusion.png)",
        "## Worst images",
        "Image, truth, prediction and errors. The mean IoU of each image is in [images.csv](images.csv).",
        "![legend](legend.png)",
    ]
    rows = [
        (names[sample.index], f"![{names[sample.index]}]({path})", f"{sample.mean_iou:.2f}")
        for sample, path in zip(evaluation.worst, paths, strict=True)
    ]
    parts.append(markdown_table(("image", "picture"), ("mean IoU %",), rows))
    return "\n\n".join(part for part in parts if part) + "\n"
