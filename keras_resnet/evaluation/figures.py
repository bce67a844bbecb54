"""Pictures of a result: the confusion matrix, the reliability diagram, and the most confident mistakes."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from keras_resnet.data import pipeline
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.transforms import EvalTransform, Transform
from keras_resnet.evaluation import metrics
from keras_resnet.evaluation.metrics import Outcomes

NAMED_CLASSES = 40
"""Up to so many classes, names stand beside a confusion matrix, and up to half as many, numbers in it."""

DPI = 100


def confusion_matrix(outcomes: Outcomes, class_names: Sequence[str], path: str | os.PathLike, title: str = "") -> None:
    """Draw how many percent of the images of each class (rows) are taken for which class (columns).

    Classes without images are left out.
    """
    counts = metrics.confusion(outcomes)
    seen = np.flatnonzero(counts.sum(0) + counts.sum(1))
    counts = counts[np.ix_(seen, seen)]
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = 3 + 0.42 * min(len(seen), NAMED_CLASSES) if len(seen) <= NAMED_CLASSES else 8
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    bar = figure.colorbar(picture, ax=axes, shrink=0.8)
    bar.set_label("% of the images of the class")
    axes.set(xlabel="predicted", ylabel="class", title=title)
    if len(seen) <= NAMED_CLASSES:
        names = [class_names[number] for number in seen]
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
                axes.text(column, row, text, ha="center", va="center", color="white" if value > 50 else "black", size=8)
    figure.savefig(path, dpi=DPI)


def reliability(outcomes: Outcomes, path: str | os.PathLike, title: str = "") -> None:
    """Draw how often the network is right by how sure it is (Guo et al., 2017), and how many images are in each bin."""
    bins = metrics.calibration(outcomes)
    width = 1 / len(bins.count)
    centers = (np.arange(len(bins.count)) + 0.5) * width
    filled = bins.count > 0
    figure = Figure(figsize=(5, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.bar(centers[filled], bins.accuracy[filled], width, edgecolor="white", label="right")
    above.plot(bins.confidence[filled], bins.accuracy[filled], "o", color="black", markersize=3)
    above.plot([0, 1], [0, 1], "--", color="gray", label="perfectly calibrated")
    above.set(ylabel="share that is right", ylim=(0, 1), xlim=(0, 1), title=title)
    above.legend(loc="upper left")
    below.bar(centers, bins.count, width, edgecolor="white", color="gray")
    below.set(xlabel="confidence", ylabel="images", yscale="log")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=DPI)


def mistakes(
    outcomes: Outcomes,
    dataset: Dataset,
    split: str,
    view: Transform,
    class_names: Sequence[str],
    path: str | os.PathLike,
    title: str = "",
    most: int = 25,
) -> None:
    """Draw the wrong images that the network was surest of, with its class and the right one.

    Args:
        outcomes: of the whole split, in its order.
        dataset: where the images come from.
        split: of the data set.
        view: what to show of each image.
        class_names: names of the network's classes.
        path: the picture.
        title: of the picture.
        most: how many images at most.
    """
    indices = metrics.confident_mistakes(outcomes, most)
    columns = 5
    rows = max(-(-len(indices) // columns), 1)
    figure = Figure(figsize=(2.1 * columns, 2.4 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for one in axes:
        one.set_axis_off()
    if not len(indices):
        axes[0].text(0, 0.5, "no mistakes")
    for one, index, pixels in zip(axes, indices, pictures(dataset, split, indices, view), strict=False):
        label, predicted = (class_names[each[index]] for each in (outcomes.label, outcomes.predicted))
        one.imshow(pixels, interpolation="nearest")
        one.set_title(f"{label}\ntaken for {predicted}\n{100 * outcomes.confidence[index]:.1f} % sure", size=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=DPI)


def pictures(dataset: Dataset, split: str, indices: Sequence[int], view: Transform) -> np.ndarray:
    """Read the images with these indices in a split, u8[n,H,W,3], without normalisation."""
    if not len(indices):
        return np.zeros((0, *view.size, 3), "uint8")
    plain = EvalTransform.unnormalized(view)
    batches = pipeline.evaluate(dataset.pick(split, indices), len(indices), plain, split="picked")
    return np.concatenate([np.clip(np.round(images), 0, 255).astype("uint8") for images, _ in batches])
