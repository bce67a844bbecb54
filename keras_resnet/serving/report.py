"""What TFLite files cost and give beside the network they were made of: one table and one picture."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data import pipeline
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.transforms import EvalTransform
from keras_resnet.ops import image

ROUNDS = 15
"""Alternating rounds of the timing."""

ROUND_SECONDS = 0.1
"""How long one network is called in a round."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One network of the report.

    Attributes:
        variant: "original" for the network itself, run by TensorFlow.
        top1_error: percent.
        top5_error: percent.
        agreement: percent of images with the original's best class.
        difference: largest difference of a probability from the original's.
        megabytes: 10^6 bytes of the file; of the original, of its weights.
        milliseconds: median time of an image, over rounds in which the networks take turns.
        fastest: milliseconds of the fastest round.
        slowest: milliseconds of the slowest round.
        images: how many images the errors are over.
    """

    variant: str
    top1_error: float
    top5_error: float
    agreement: float
    difference: float
    megabytes: float
    milliseconds: float
    fastest: float
    slowest: float
    images: int


def measure(
    model: keras.Model,
    mean,
    std,
    files: Mapping[str, pathlib.Path],
    dataset: Dataset,
    view: EvalTransform,
    threads: int = 2,
    outputs: np.ndarray | None = None,
    batch_size: int = 1,
) -> list[Row]:
    """Run a network and its TFLite files on a data set.

    Args:
        model: f32[N,H,W,3] normalised -> f32[N,K] probabilities.
        mean: of each channel or pixel, in [0, 255].
        std: of each channel.
        files: variant -> file.
        dataset: with the images in its split "picked".
        view: of the images, without normalisation.
        threads: threads of the interpreter.
        outputs: the output of the network that each label stands for, i64[classes of the data set]; None where labels
            are outputs already.
        batch_size: images in a call of the files, and of the timing.

    Returns:
        A row for the network, and one for each file. The files are shown the same pixels, rounded to uint8.
    """
    from tqdm import tqdm

    runners = {variant: interpreter(path, threads) for variant, path in files.items()}

    @tf.function(input_signature=[tf.TensorSpec([None, *model.input_shape[1:]], tf.float32)])
    def original(pixels):
        return model(image.normalize(pixels, mean, std), training=False)

    scores = {variant: [] for variant in ("original", *runners)}
    labels = []
    batches = pipeline.evaluate(dataset, 32, view, split="picked")
    with tqdm(total=dataset.count("picked"), unit="image", desc="report", disable=None) as bar:
        for pixels, label in batches:
            labels.append(label.numpy())
            scores["original"].append(original(pixels).numpy())
            rounded = to_uint8(pixels.numpy())
            for variant, run in runners.items():
                parts = (rounded[start : start + batch_size] for start in range(0, len(rounded), batch_size))
                scores[variant].append(np.concatenate([run(_filled(part, batch_size))[: len(part)] for part in parts]))
            bar.update(len(label))
    first, rounded = tf.constant(_filled(pixels.numpy(), batch_size)), _filled(rounded, batch_size)
    calls = {"original": lambda: original(first)}
    calls |= {variant: lambda run=run: run(rounded) for variant, run in runners.items()}
    times = {variant: [each / batch_size for each in one] for variant, one in _time(calls).items()}
    sizes = {variant: path.stat().st_size for variant, path in files.items()}
    sizes["original"] = 4 * model.count_params()
    label = np.concatenate(labels) if outputs is None else outputs[np.concatenate(labels)]
    reference = np.concatenate(scores["original"])
    return [
        _row(variant, np.concatenate(values), reference, label, sizes[variant], times[variant])
        for variant, values in scores.items()
    ]


def _filled(images: np.ndarray, count: int) -> np.ndarray:
    """The first `count` images, from the beginning again where there are fewer."""
    return np.resize(images, (count, *images.shape[1:]))


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Round pixels in [0, 255] to uint8."""
    return np.clip(np.rint(pixels), 0, 255).astype("uint8")


def interpreter(path: pathlib.Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function of a TFLite file, u8[B,H,W,3] -> probabilities f32[B,K], run by LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    lite = Interpreter(model_path=str(path), num_threads=threads)
    lite.allocate_tensors()
    (source,), (target,) = lite.get_input_details(), lite.get_output_details()
    scale, zero = target["quantization"]

    def run(images: np.ndarray) -> np.ndarray:
        lite.set_tensor(source["index"], images)
        lite.invoke()
        values = lite.get_tensor(target["index"])
        return (values.astype("float32") - zero) * scale if scale else values

    return run


def _time(calls: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Milliseconds of a call in each round; in a round they take turns, so that other load meets all alike."""
    times = {name: [] for name in calls}
    for number in range(ROUNDS + 1):
        for name, call in calls.items():
            count, start = 0, time.perf_counter()
            while count < 2 or time.perf_counter() - start < ROUND_SECONDS:
                call()
                count += 1
            if number:  # the first round warms up
                times[name].append(1e3 * (time.perf_counter() - start) / count)
    return times


def _row(variant, scores, reference, labels, size, times) -> Row:
    # Scores of integer networks are often equal: then the first class comes first, as `argmax` and `top_k` have it.
    order = np.argsort(-scores, axis=1, kind="stable")
    rank = np.argmax(order == labels[:, None], axis=1)
    return Row(
        variant=variant,
        top1_error=100 * float(np.mean(rank >= 1)),
        top5_error=100 * float(np.mean(rank >= 5)),
        agreement=100 * float(np.mean(scores.argmax(1) == reference.argmax(1))),
        difference=float(np.abs(scores - reference).max()),
        megabytes=size / 1e6,
        milliseconds=float(np.median(times)),
        fastest=min(times),
        slowest=max(times),
        images=len(labels),
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head = (
        "| variant | top-1 error % | top-5 error % | same class % | max. difference | MB | ms an image (range) |\n"
        "|---|---:|---:|---:|---:|---:|---:|\n"
    )
    return head + "".join(
        f"| {row.variant} | {row.top1_error:.2f} | {row.top5_error:.2f} | {row.agreement:.2f} | {row.difference:.1e} | "
        f"{row.megabytes:.2f} | {row.milliseconds:.2f} ({row.fastest:.2f}-{row.slowest:.2f}) |\n"
        for row in rows
    )


def write(rows: Sequence[Row], folder: pathlib.Path, title: str, threads: int) -> None:
    """Write `report.md`, `report.json` and `report.png` into a folder."""
    how = f"LiteRT with {threads} threads, the original with TensorFlow's own"
    text = (
        f"# {title}\n\n{rows[0].images} images; {how}; medians of {ROUNDS} rounds in which the variants take turns.\n\n"
        f"{table(rows)}\n![errors, sizes and times](report.png)\n"
    )
    (folder / "report.md").write_text(text, encoding="utf-8")
    values = json.dumps([dataclasses.asdict(row) for row in rows], indent=2)
    (folder / "report.json").write_text(values + "\n", encoding="utf-8")
    _draw(rows, folder / "report.png", title)


def _draw(rows: Sequence[Row], path: pathlib.Path, title: str) -> None:
    """Three bars for each variant: error, size and time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 0.6 + 0.5 * len(rows)), layout="constrained")
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
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
