"""Figures of a result: the confusion matrix, the reliability diagram and the most confident mistakes."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from keras_resnet.data import pipeline
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.transforms import EvalTransform, Transform
from keras_resnet.evaluation import metrics
from keras_resnet.evaluation.metrics import Outcomes
from keras_resnet.experiment import plots

NAMED_CLASSES = 40
"""Most classes for which a confusion matrix shows names; half of it for percentages in the cells."""

BLUE = (0.12, 0.47, 0.71)
"""Red, green and blue of the bars."""


def confusion_matrix(outcomes: Outcomes, class_names: Sequence[str], path: str | os.PathLike, title: str = "") -> None:
    """Plot the percentage of the images of each class (rows) that are classified as each class (columns).

    Classes without images and predictions are left out.
    """
    confusion_counts(metrics.confusion(outcomes), class_names, path, title)


def confusion_counts(
    counts: np.ndarray, class_names: Sequence[str], path: str | os.PathLike, title: str = "", counted: str = "images"
) -> None:
    """Plot a matrix of counts i64[K,K] by true (rows) and predicted class (columns) as percentages of the rows.

    Args:
        counts: the matrix; classes without counts are left out.
        class_names: names of the K classes.
        path: the image file.
        title: title of the figure.
        counted: the plural of what is counted.
    """
    seen = np.flatnonzero(counts.sum(0) + counts.sum(1))
    counts = counts[np.ix_(seen, seen)]
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = 3 + 0.42 * min(len(seen), NAMED_CLASSES) if len(seen) <= NAMED_CLASSES else 8
    with plots.figure(path, size + 0.8, size) as figure:
        axes = figure.subplots()
        heatmap = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
        bar = figure.colorbar(heatmap, ax=axes, shrink=0.8)
        bar.set_label(f"% of the {counted} of the class")
        axes.set(xlabel="predicted", ylabel="class", title=plots.label(title))
        if len(seen) <= NAMED_CLASSES:
            names = [plots.label(class_names[int(number)]) for number in seen]
            axes.set_xticks(range(len(seen)), names, rotation=45, ha="right", rotation_mode="anchor")
            axes.set_yticks(range(len(seen)), names)
        else:
            ticks = np.linspace(0, len(seen) - 1, 11).round().astype(int)
            axes.set_xticks(ticks, seen[ticks], rotation=45)
            axes.set_yticks(ticks, seen[ticks])
        if len(seen) <= NAMED_CLASSES // 2:
            for (row, column), value in np.ndenumerate(share):
                if value:
                    text = f"{value:.0f}" if value >= 1 else f"{value:.1f}"
                    axes.text(
                        column, row, text, ha="center", va="center", color="white" if value > 50 else "black", size=8
                    )


def reliability(outcomes: Outcomes, path: str | os.PathLike, title: str = "") -> None:
    """Plot accuracy over confidence (Guo et al., 2017), and the number of images in each bin of confidence.

    A bin is the paler, the fewer images it has, because their accuracy says less.
    """
    bins = metrics.calibration(outcomes)
    width = 1 / len(bins.count)
    centers = (np.arange(len(bins.count)) + 0.5) * width
    filled = bins.count > 0
    shares = bins.count[filled] / max(bins.count.max(), 1)
    shades = [(*BLUE, 0.15 + 0.85 * float(share) ** 0.5) for share in shares]
    with plots.figure(path, 5, 6) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.bar(centers[filled], bins.accuracy[filled], width, color=shades, edgecolor="white", label="accuracy")
        above.plot(bins.confidence[filled], bins.accuracy[filled], "o", color="black", markersize=3)
        above.plot([0, 1], [0, 1], "--", color="gray", label="perfectly calibrated")
        above.set(ylabel="accuracy", ylim=(0, 1), xlim=(0, 1), title=plots.label(title))
        above.legend(loc="upper left")
        below.bar(centers, bins.count, width, edgecolor="white", color="gray")
        below.set(xlabel="confidence", ylabel="images", yscale="log")
        for axes in (above, below):
            axes.grid(alpha=0.3)


def mistakes(
    outcomes: Outcomes,
    dataset: Dataset,
    split: str,
    transform: Transform,
    class_names: Sequence[str],
    path: str | os.PathLike,
    title: str = "",
    most: int = 25,
) -> None:
    """Plot the misclassified images with the highest confidence, with the correct and the predicted class.

    Args:
        outcomes: outcomes of the whole split, in its order.
        dataset: the data set.
        split: the evaluated split.
        transform: the test transform, of which normalization is left out.
        class_names: names of the network's classes.
        path: the image file to write.
        title: title of the figure.
        most: largest number of images.
    """
    indices = metrics.confident_mistakes(outcomes, most)
    columns = 5
    rows = max(-(-len(indices) // columns), 1)
    with plots.figure(path, 2.1 * columns, 2.4 * rows + 0.5) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        if not len(indices):
            axes[0].text(0, 0.5, "no mistakes")
        for axis, index, pixels in zip(axes, indices, read_images(dataset, split, indices, transform), strict=False):
            label, predicted = (
                plots.label(class_names[classes[index]]) for classes in (outcomes.label, outcomes.predicted)
            )
            axis.imshow(pixels, interpolation="nearest")
            axis.set_title(f"{label}\ntaken for {predicted}\n{100 * outcomes.confidence[index]:.1f} % sure", size=8)
        figure.suptitle(plots.label(title))


def read_images(dataset: Dataset, split: str, indices: np.ndarray | Sequence[int], transform: Transform) -> np.ndarray:
    """Read the images at these indices of a split without normalization: u8[n,H,W,3]."""
    if not len(indices):
        return np.zeros((0, *transform.size, 3), "uint8")
    pixels = EvalTransform.unnormalized(transform)
    batches = pipeline.evaluate(dataset.pick(split, indices), len(indices), pixels, split="picked")
    return np.concatenate([np.clip(np.round(images), 0, 255).astype("uint8") for images, _ in batches])
