"""Accuracy, size and latency of exported files compared with the network that they were converted from."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_resnet.data import pipeline
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.transforms import EvalTransform
from keras_resnet.errors import InputError, counted
from keras_resnet.evaluation import exported
from keras_resnet.evaluation.metrics import Outcomes, Result
from keras_resnet.evaluation.report import markdown_table
from keras_resnet.evaluation.scores import log_probabilities
from keras_resnet.experiment import plots
from keras_resnet.models import class_names
from keras_resnet.ops import image
from keras_resnet.serving.source import ServableClassifier

RUNTIMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
"""Variant -> what runs it; LiteRT for the others."""

ROUNDS = 15
"""Rounds of the timing, in which the networks take turns."""

ROUND_SECONDS = 0.1
"""Time for which each network is called in a round."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One network of the report.

    Attributes:
        variant: "original" for the network itself, run by TensorFlow.
        top1_error: in percent.
        top5_error: in percent; None for five classes or fewer.
        agreement: percentage of images with the same best class as the original.
        difference: largest difference between a probability and the original's.
        megabytes: size of the file in 10^6 bytes; for the original, of its weights.
        milliseconds: median time per image over rounds in which the networks take turns.
        fastest: milliseconds in the fastest round.
        slowest: milliseconds in the slowest round.
        images: number of images.
    """

    variant: str
    top1_error: float
    top5_error: float | None
    agreement: float
    difference: float
    megabytes: float
    milliseconds: float
    fastest: float
    slowest: float
    images: int

    @classmethod
    def of(
        cls,
        variant: str,
        probabilities: np.ndarray,
        original: np.ndarray,
        labels: np.ndarray,
        size: int,
        times: Sequence[float],
    ) -> Row:
        """Compute a row.

        Args:
            variant: name of the network.
            probabilities: its output f32[N,K].
            original: the original's output f32[N,K].
            labels: i64[N].
            size: bytes.
            times: milliseconds per image in each round.
        """
        result = Result.of(Outcomes.of(labels, log_probabilities(probabilities, from_logits=False)))
        return cls(
            variant=variant,
            top1_error=result.top1_error,
            top5_error=result.top5_error,
            agreement=100 * float(np.mean(probabilities.argmax(1) == original.argmax(1))),
            difference=float(np.abs(probabilities - original).max()),
            megabytes=size / 1e6,
            milliseconds=float(np.median(times)),
            fastest=min(times),
            slowest=max(times),
            images=len(labels),
        )


def choose_images(
    source: ServableClassifier, dataset: Dataset | None, split: str | None, count: int
) -> tuple[Dataset | None, np.ndarray | None]:
    """Choose the images of a report.

    Args:
        source: the trained network.
        dataset: the data set; None only if there is no report.
        split: split of the images; None for no report.
        count: number of images, spread evenly over the split; 0 for all.

    Returns:
        The images in the split "picked", and i64[classes of the data set], the network's class of each label; None if
        they are the same. Both are None without a report.

    Raises:
        ValueError: there is no data set or split, or it has fewer images.
    """
    if not split:
        return None, None
    if dataset is None:
        raise InputError("dataset must be given for a report; got None.")
    available = dataset.count(split, "report_split")
    if count > available:
        raise InputError(f"report_images must be from 0 to the {available} images of {split!r}; got {count}.")
    images = dataset.sample(split, count)
    return images, class_names.label_map(images.info.class_names, source.dataset_info.class_names)


def measure(
    model: keras.Model,
    mean: Any,
    std: Any,
    paths: Mapping[str, pathlib.Path],
    dataset: Dataset,
    transform: EvalTransform,
    threads: int = 2,
    outputs: np.ndarray | None = None,
    batch_size: int = 1,
) -> list[Row]:
    """Evaluate and time a network and its exported files on a data set.

    Args:
        model: f32[N,H,W,3] normalized -> probabilities f32[N,K].
        mean: mean of each channel or pixel, in [0, 255].
        std: standard deviation of each channel.
        paths: variant -> TFLite, ONNX or OpenVINO file.
        dataset: the images, in its split "picked".
        transform: the test transform without normalization.
        threads: threads of the files' runtime.
        outputs: i64[classes of the data set], the network's class of each label; None if they are the same.
        batch_size: images in a call of a file, also for the timing.

    Returns:
        A row for the network and one for each file. The files get the same pixels, rounded to uint8.
    """
    functions = {variant: exported.read(path, threads).function for variant, path in paths.items()}

    @tf.function(input_signature=[tf.TensorSpec([None, *model.input_shape[1:]], tf.float32)])
    def original(pixels: tf.Tensor) -> tf.Tensor:
        return model(image.normalize(pixels, mean, std), training=False)

    scores: dict[str, list[np.ndarray]] = {variant: [] for variant in ("original", *functions)}
    labels = []
    with tqdm(total=dataset.count("picked"), unit="image", desc="report", disable=None) as bar:
        for pixels, label in pipeline.evaluate(dataset, 32, transform, split="picked"):
            labels.append(label.numpy())
            scores["original"].append(original(pixels).numpy())
            rounded = exported.as_type(pixels, "uint8")
            for variant, function in functions.items():
                starts = range(0, len(rounded), batch_size)
                scores[variant] += [function(rounded[start : start + batch_size]) for start in starts]
            bar.update(len(label))
    # `resize` repeats images if there are too few for a batch.
    batch, rounded = (np.resize(images, (batch_size, *images.shape[1:])) for images in (pixels.numpy(), rounded))
    tensor = tf.constant(batch)
    calls: dict[str, Callable[[], object]] = {"original": functools.partial(original, tensor)}
    calls |= {variant: functools.partial(function, rounded) for variant, function in functions.items()}
    times = {variant: [value / batch_size for value in values] for variant, values in time_in_turns(calls).items()}
    sizes = {"original": 4 * model.count_params()}
    sizes |= {variant: _bytes(path) for variant, path in paths.items()}
    label = np.concatenate(labels).astype("int64")
    label = label if outputs is None else outputs[label]
    probabilities = {variant: np.concatenate(values) for variant, values in scores.items()}
    return [
        Row.of(variant, values, probabilities["original"], label, sizes[variant], times[variant])
        for variant, values in probabilities.items()
    ]


def _bytes(path: pathlib.Path) -> int:
    """The size of a file, with that of the weights of an OpenVINO file."""
    return sum(part.stat().st_size for part in {path, path.with_suffix(".bin")} if part.exists())


def time_in_turns(calls: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Return the milliseconds of a call in each round; the calls take turns, so that other load affects all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(ROUNDS + 1):
        for name, call in calls.items():
            count, start = 0, time.perf_counter()
            while count < 2 or time.perf_counter() - start < ROUND_SECONDS:
                call()
                count += 1
            if number:  # the first round warms up
                times[name].append(1e3 * (time.perf_counter() - start) / count)
    return times


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table; the top-5 error is left out for five classes or fewer."""
    columns = {
        "top-1 error %": [f"{row.top1_error:.2f}" for row in rows],
        "top-5 error %": [f"{row.top5_error:.2f}" for row in rows if row.top5_error is not None],
        "same class %": [f"{row.agreement:.2f}" for row in rows],
        "max. difference": [f"{row.difference:.1e}" for row in rows],
        "MB": [f"{row.megabytes:.2f}" for row in rows],
        "ms an image (range)": [f"{row.milliseconds:.2f} ({row.fastest:.2f}-{row.slowest:.2f})" for row in rows],
    }
    columns = {name: cells for name, cells in columns.items() if cells}
    variants = [row.variant for row in rows]
    return markdown_table(("variant",), tuple(columns), zip(variants, *columns.values(), strict=True))


def write(rows: Sequence[Row], folder: pathlib.Path, title: str, threads: int) -> None:
    """Write `report.md`, `report.json` and `report.png` to a folder."""
    names = dict.fromkeys(RUNTIMES.get(row.variant, "LiteRT") for row in rows[1:])
    runtimes = f"{', '.join(names)} with {threads} threads, the original with TensorFlow's own"
    text = (
        f"# {title}\n\n{counted(rows[0].images, 'image')}; {runtimes}; medians of {ROUNDS} rounds in which the "
        f"variants take turns.\n\n{table(rows)}\n\n![errors, sizes and times](report.png)\n"
    )
    (folder / "report.md").write_text(text, encoding="utf-8")
    values = [{name: value for name, value in vars(row).items() if value is not None} for row in rows]
    (folder / "report.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    _plot(rows, folder / "report.png", title)


def _plot(rows: Sequence[Row], path: pathlib.Path, title: str) -> None:
    """Plot three bars for each variant: error, size and time."""
    with plots.figure(path, 10, 0.6 + 0.5 * len(rows), dpi=150) as figure:
        panels = {"top-1 error (%)": "top1_error", "size (MB)": "megabytes", "time of an image (ms)": "milliseconds"}
        axes = figure.subplots(1, len(panels), sharey=True)
        for axis, (label, name) in zip(axes, panels.items(), strict=True):
            values = [getattr(row, name) for row in rows]
            bars = axis.barh([row.variant for row in rows], values, color=["0.6", *["tab:blue"] * (len(rows) - 1)])
            axis.bar_label(bars, [f"{value:.3g}" for value in values], padding=3)
            axis.margins(x=0.18)
            axis.set_xlabel(label)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].invert_yaxis()
        figure.suptitle(plots.label(title))
