"""Average precision of detectors by the rules of PASCAL VOC and of COCO, their curves, and pictures with boxes."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from keras_resnet.detection import average_precision, inference
from keras_resnet.detection.average_precision import Curve, Detections
from keras_resnet.detection.data.annotations import Annotation
from keras_resnet.errors import InputError

COCO_STATISTICS = (
    "AP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR_1",
    "AR_10",
    "AR_100",
    "AR_small",
    "AR_medium",
    "AR_large",
)
"""Names of the twelve numbers of COCO's evaluation, in its order."""


@dataclasses.dataclass(frozen=True)
class VocResult:
    """Average precision in percent, class by class, at one overlap.

    Attributes:
        class_names: the classes.
        curves: precision over recall of each.
        images: number of pictures.
    """

    class_names: tuple[str, ...]
    curves: tuple[Curve, ...]
    images: int

    def averages(self, points: int | None = None) -> list[float]:
        """Average precision of each class in percent: of VOC 2010, or with 11 points of VOC 2007."""
        return [100 * curve.average(points) for curve in self.curves]

    def mean(self, points: int | None = None) -> float:
        """Their mean over the classes that occur."""
        return average_precision.mean(self.averages(points))

    def table(self) -> str:
        """A Markdown table: boxes, average precision by both rules."""
        lines = ["| class | boxes | AP (area) | AP (11 points) |", "|---|---:|---:|---:|"]
        rows = zip(self.class_names, self.curves, self.averages(), self.averages(11), strict=True)
        lines += [f"| {name} | {curve.expected} | {area:.2f} | {old:.2f} |" for name, curve, area, old in rows]
        total = sum(curve.expected for curve in self.curves)
        return "\n".join([*lines, f"| mean | {total} | {self.mean():.2f} | {self.mean(11):.2f} |"])


def voc(
    found: Sequence[Detections], pictures: Sequence[Annotation], class_names: Sequence[str], overlap: float = 0.5
) -> VocResult:
    """Evaluate detections by PASCAL VOC's rules; difficult boxes and crowds count neither way.

    Args:
        found: what was found in each picture, in its pixels.
        pictures: with their boxes.
        class_names: names of the classes.
        overlap: intersection over union from which on a detection is right.
    """
    curves = average_precision.curves(found, inference.truths(pictures), len(class_names), overlap)
    return VocResult(tuple(class_names), tuple(curves), len(pictures))


def coco(found: Sequence[Detections], pictures: Sequence[Annotation], class_names: Sequence[str]) -> dict[str, float]:
    """Evaluate detections by pycocotools, COCO's own code.

    Args:
        found: what was found in each picture, in its pixels.
        pictures: with their boxes; difficult ones are ignored as crowds are.
        class_names: names of the classes.

    Returns:
        The twelve numbers of `COCO_STATISTICS` in percent; not a number where there is nothing to measure.

    Raises:
        ValueError: pycocotools is not installed.
    """
    COCO, COCOeval = pycocotools()
    annotations = []
    for number, picture in enumerate(pictures):
        sides = picture.boxes * np.array([*picture.size, *picture.size])
        ignored = picture.crowd | picture.difficult
        for box, label, crowd, area in zip(sides, picture.labels, ignored, picture.areas, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(label) + 1,
                    "bbox": _xywh(box),
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
    results = results_list(found, range(len(pictures)), range(1, len(class_names) + 1))
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": number} for number in range(len(pictures))],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(class_names, start=1)],
    }
    nothing = COCO()  # `loadRes` wants at least one result
    nothing.dataset = {**truth.dataset, "annotations": []}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        nothing.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results) if results else nothing, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = [float(value) for value in evaluation.stats]
    return {
        name: 100 * value if value >= 0 else float("nan") for name, value in zip(COCO_STATISTICS, values, strict=True)
    }


def pycocotools() -> tuple[type, type]:
    """COCO's own classes `COCO` and `COCOeval`.

    Raises:
        ValueError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise InputError("COCO's evaluation needs pycocotools: pip install 'keras-resnet-zoo[detection]'.") from error
    return COCO, COCOeval


def results_list(found: Sequence[Detections], ids: Sequence, categories: Sequence[int]) -> list[dict]:
    """PaddedDetections in the format of COCO's result files.

    Args:
        found: what was found in each image, in its pixels.
        ids: each image's id.
        categories: each class's number.
    """
    return [
        {
            "image_id": id,
            "category_id": int(categories[label]),
            "bbox": _xywh(box),
            "score": float(score),
        }
        for id, one in zip(ids, found, strict=True)
        for box, score, label in zip(one.boxes, one.scores, one.labels, strict=True)
    ]


def _xywh(box) -> list[float]:
    top, left, bottom, right = map(float, box)
    return [left, top, right - left, bottom - top]


def plot(result: VocResult, path: str | os.PathLike) -> None:
    """Draw precision over recall of each class."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    for name, curve, average in zip(result.class_names, result.curves, result.averages(), strict=True):
        axes.plot(curve.recall, curve.precision, label=f"{name}: {average:.1f} %")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=f"{result.images} images")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=1 + len(result.class_names) // 12)
    figure.savefig(path, dpi=120)


COLORS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#800000", "#808000", "#000075")


def draw(pixels: np.ndarray, found: Detections, class_names: Sequence[str], score: float = 0.5) -> Image.Image:
    """Draw the boxes of detections, with class and probability.

    Args:
        pixels: u8[H,W,3].
        found: what was found, in pixels of the image.
        class_names: names of the classes.
        score: lowest probability that is drawn.
    """
    picture = Image.fromarray(pixels)
    canvas = ImageDraw.Draw(picture)
    width = max(1, round(max(picture.size) / 300))
    for box, value, label in zip(*found, strict=True):
        if value < score:
            continue
        top, left, bottom, right = (round(float(side)) for side in box)
        color = COLORS[label % len(COLORS)]
        canvas.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=color, width=width)
        text = f"{class_names[label]} {value:.2f}"
        place = canvas.textbbox((left, max(top - 12, 0)), text)
        canvas.rectangle(place, fill=color)
        canvas.text(place[:2], text, fill="white")
    return picture


def write_pictures(
    found: Sequence[Detections],
    pictures: Sequence[Annotation],
    class_names: Sequence[str],
    folder: str | os.PathLike,
    count: int = 8,
    score: float = 0.5,
) -> list[pathlib.Path]:
    """Write some pictures with what was found in them, spread evenly over the split.

    Args:
        found: what was found in each picture.
        pictures: the pictures.
        class_names: names of the classes.
        folder: is made where it is missing.
        count: how many.
        score: lowest probability that is drawn.

    Returns:
        The files, named by their number in the split and their own name.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in np.unique(np.linspace(0, len(pictures) - 1, min(count, len(pictures))).round().astype(int)):
        with Image.open(pictures[number].path) as file:
            pixels = np.asarray(file.convert("RGB"))
        files.append(folder / f"{number}_{pathlib.Path(pictures[number].path).stem}.png")
        draw(pixels, found[number], class_names, score).save(files[-1])
    return files
