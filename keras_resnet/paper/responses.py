"""Layer responses (Figure 7): the standard deviations of the outputs of 3x3 layers."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_resnet.classification import evaluate
from keras_resnet.classification.run import TrainedClassifier, unique_names
from keras_resnet.data import pipeline
from keras_resnet.errors import InputError
from keras_resnet.experiment import plots
from keras_resnet.models.submodels import submodel


@dataclasses.dataclass(frozen=True)
class Responses:
    """The responses of the 3x3 layers of a network.

    Attributes:
        name: the network.
        layers: names of the n convolutions, in order.
        deviations: f64[n], standard deviations of their outputs after batch norm.
    """

    name: str
    layers: tuple[str, ...]
    deviations: np.ndarray


def layer_responses(model: keras.Model, batches: Iterable, name: str | None = None) -> Responses:
    """Measure the standard deviation of each 3x3 layer's output after batch norm and before the nonlinearity.

    In residual networks this is before the addition too (Figure 7). The standard deviation is over images, positions
    and channels.

    Args:
        model: a network in which each convolution `..._conv` is followed by a batch norm `..._bn`, as in this package.
        batches: f32[B,H,W,3], or tuples that begin with it, such as those of `pipeline.evaluate`.
        name: name in plots and tables; by default the model's.

    Returns:
        `Responses`.

    Raises:
        ValueError: the model has no such layers, or there are no batches.
    """
    convolutions = [
        layer.name
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (3, 3) and layer.name.endswith("_conv")
    ]
    if not convolutions:
        raise InputError(f"model must have 3x3 convolutions named ..._conv; {model.name} has none.")
    outputs = [model.get_layer(layer.removesuffix("_conv") + "_bn").output for layer in convolutions]
    inner = submodel(model, outputs)

    @tf.function(reduce_retracing=True)
    def moments(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        maps = [tf.cast(output, tf.float32) for output in tf.nest.flatten(inner(images, training=False))]
        means, variances = zip(*(tf.nn.moments(each, [0, 1, 2, 3]) for each in maps), strict=True)
        return tf.stack(means), tf.stack(variances)

    mean = square = np.zeros(len(convolutions))
    count = 0
    for batch in batches:
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        batch_mean, batch_variance = (values.numpy().astype("float64") for values in moments(images))
        mean = mean + len(images) * batch_mean
        square = square + len(images) * (batch_variance + batch_mean**2)
        count += len(images)
    if not count:
        raise InputError("batches must hold at least one image; got none.")
    mean, square = mean / count, square / count
    return Responses(name or model.name, tuple(convolutions), np.sqrt(np.maximum(square - mean**2, 0)))


def of_networks(
    sources: Sequence[TrainedClassifier],
    dataset: str | None = None,
    data_dir: str | None = None,
    split: str | None = None,
    batch_size: int = 256,
) -> list[Responses]:
    """Measure the layer responses of trained networks over a split, with progress.

    Args:
        sources: runs or published weights.
        dataset: name of the data set; by default that of the first source.
        data_dir: folder of prepared tensorflow-datasets; by default that of the first source.
        split: by default the first of test, validation and val that the data set has.
        batch_size: images in a batch.

    Raises:
        ValueError: an unknown data set or split.
    """
    images = evaluate.open_dataset(sources, dataset, data_dir)
    split = split or evaluate.default_split(images, sources)
    result = []
    with tqdm(total=images.count(split) * len(sources), unit="image", desc="responses", disable=None) as bar:
        for name, source in zip(unique_names(sources), sources, strict=True):
            transform = evaluate.eval_transform(source, images)
            batches = pipeline.evaluate(images, batch_size, transform, split=split)
            result.append(layer_responses(source.load(), _counted(batches, bar), name))
    return result


def _counted(batches: Iterable, bar: tqdm) -> Iterator:
    for images, labels in batches:
        yield images, labels
        bar.update(len(labels))


def plot(responses: Sequence[Responses], path: str | os.PathLike) -> None:
    """Plot Figure 7: standard deviations by layer (top) and sorted by size (bottom); plain networks are dashed."""
    with plots.figure(path, 7, 6.5) as figure:
        above, below = figure.subplots(2, 1)
        for network in responses:
            style = "--" if "plain" in network.name.lower() else "-"
            index = np.arange(1, len(network.deviations) + 1)
            above.plot(index, network.deviations, style, label=plots.label(network.name), linewidth=1.3)
            below.plot(index, np.sort(network.deviations)[::-1], style, label=plots.label(network.name), linewidth=1.3)
        for axes, label in ((above, "3x3 layer, in order"), (below, "3x3 layer, sorted by its deviation")):
            axes.set(xlabel=label, ylabel="standard deviation", ylim=(0, None), xlim=(0, None))
            plots.whole_numbers(axes.xaxis)
            axes.grid(alpha=0.3)
        above.set_title("Layer responses after batch norm, before the nonlinearity")
        above.legend()


def write_csv(responses: Sequence[Responses], path: str | os.PathLike) -> None:
    """Write a CSV with the columns network, layer and standard_deviation."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["network", "layer", "standard_deviation"])
        for network in responses:
            rows = zip(network.layers, network.deviations, strict=True)
            writer.writerows([network.name, layer, f"{value:.6f}"] for layer, value in rows)
