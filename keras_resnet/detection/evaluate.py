"""Evaluate detectors by the rules of PASCAL VOC and of COCO; plot curves and draw detections."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from keras_resnet.detection import average_precision, inference
from keras_resnet.detection.average_precision import Curve, Detections, GroundTruth
from keras_resnet.detection.data.annotations import Annotation
from keras_resnet.detection.data.transforms import DetectionTransform
from keras_resnet.errors import InputError, counted
from keras_resnet.experiment import plots
from keras_resnet.ops import codecs
from keras_resnet.ops.masks import ObjectMask

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
"""Names of the twelve metrics of COCO's evaluation, in its order."""


@dataclasses.dataclass(frozen=True)
class VocResult:
    """Average precision of each class at one IoU threshold.

    Attributes:
        class_names: names of the classes.
        curves: precision over recall of each class.
        images: number of images.
    """

    class_names: tuple[str, ...]
    curves: tuple[Curve, ...]
    images: int

    def averages(self, points: int | None = None) -> list[float]:
        """Return the average precision of each class in percent: of VOC 2010, or with 11 points of VOC 2007."""
        return [100 * curve.average(points) for curve in self.curves]

    def mean(self, points: int | None = None) -> float:
        """Return the mean average precision over the classes that occur."""
        return average_precision.mean(self.averages(points))

    def table(self) -> str:
        """Return a Markdown table of the classes: number of boxes, and average precision by both rules."""
        lines = ["| class | boxes | AP (area) | AP (11 points) |", "|---|---:|---:|---:|"]
        rows = zip(self.class_names, self.curves, self.averages(), self.averages(11), strict=True)
        lines += [f"| {name} | {curve.expected} | {area:.2f} | {points:.2f} |" for name, curve, area, points in rows]
        total = sum(curve.expected for curve in self.curves)
        return "\n".join([*lines, f"| mean | {total} | {self.mean():.2f} | {self.mean(11):.2f} |"])


def voc(
    detections: Sequence[Detections],
    annotations: Sequence[Annotation],
    class_names: Sequence[str],
    iou_thresh: float = 0.5,
    masks: bool = False,
) -> VocResult:
    """Evaluate detections by the rules of PASCAL VOC; difficult boxes and crowds count neither way.

    Args:
        detections: the detections in each image, in its pixels.
        annotations: the images.
        class_names: names of the classes.
        iou_thresh: lowest IoU of a right detection.
        masks: whether the IoU is that of the masks; objects without a mask then count neither way.
    """
    ground_truth = inference.ground_truth(annotations, masks)
    curves = average_precision.curves(detections, ground_truth, len(class_names), iou_thresh, masks)
    return VocResult(tuple(class_names), tuple(curves), len(annotations))


def coco(
    detections: Sequence[Detections],
    annotations: Sequence[Annotation],
    class_names: Sequence[str],
    masks: bool = False,
) -> dict[str, float]:
    """Evaluate detections with pycocotools, COCO's own code.

    Args:
        detections: the detections in each image, in its pixels.
        annotations: the images; difficult boxes are ignored, like crowds.
        class_names: names of the classes.
        masks: whether to evaluate the masks instead of the boxes; objects without a mask are then ignored.

    Returns:
        The metrics of `COCO_STATISTICS` in percent; NaN for those without any ground-truth box.

    Raises:
        ValueError: pycocotools is not installed.
    """
    COCO, COCOeval = pycocotools()
    ids = _image_ids(annotations)
    results = results_list(detections, ids, range(1, len(class_names) + 1), masks)
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [
            {"id": id, "height": annotation.size[0], "width": annotation.size[1]}
            for id, annotation in zip(ids, annotations, strict=True)
        ],
        "annotations": _coco_annotations(annotations, ids, masks),
        "categories": [{"id": number, "name": name} for number, name in enumerate(class_names, start=1)],
    }
    no_results = COCO()  # `loadRes` requires at least one result
    no_results.dataset = {**truth.dataset, "annotations": []}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        no_results.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results) if results else no_results, "segm" if masks else "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = [float(value) for value in evaluation.stats]
    return {
        name: 100 * value if value >= 0 else float("nan") for name, value in zip(COCO_STATISTICS, values, strict=True)
    }


def _image_ids(annotations: Sequence[Annotation]) -> list[int]:
    """The numbers of the images, in whose order pycocotools takes detections of equal scores."""
    ids = [annotation.id for annotation in annotations]
    if all(isinstance(id, int) for id in ids) and len(set(ids)) == len(ids):
        return [int(id) for id in ids]
    return list(range(len(ids)))


def _coco_annotations(annotations: Sequence[Annotation], ids: Sequence[int], masks: bool) -> list[dict[str, Any]]:
    """The boxes or masks of all images in COCO's format; classes are numbered from 1."""
    entries: list[dict[str, Any]] = []
    for image_id, annotation in zip(ids, annotations, strict=True):
        boxes, extents = annotation.boxes, annotation.extents
        extents = boxes[:, 2:] - boxes[:, :2] if extents is None else extents
        bboxes = np.concatenate([boxes[:, 1::-1], extents[:, ::-1]], -1)
        ignored = annotation.crowd | annotation.difficult
        segments: list[dict[str, Any]] = [{}] * len(boxes)
        if masks:
            truth = GroundTruth(boxes, annotation.labels, ignored, annotation.masks).with_all_masks(annotation.size)
            ignored, segments = truth.ignored, [{"segmentation": mask.to_coco()} for mask in truth.masks or () if mask]
        rows = zip(bboxes, annotation.labels, ignored, annotation.areas, segments, strict=True)
        for bbox, label, crowd, area, segment in rows:
            entries.append(
                {
                    "id": len(entries) + 1,
                    "image_id": image_id,
                    "category_id": int(label) + 1,
                    "bbox": bbox.tolist(),
                    "area": float(area),
                    "iscrowd": int(crowd),
                    **segment,
                }
            )
    return entries


def pycocotools() -> tuple[Any, Any]:
    """Return the classes `COCO` and `COCOeval` of pycocotools.

    Raises:
        ValueError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise InputError(
            "COCO's evaluation requires pycocotools: pip install 'keras-resnet-zoo[detection]'."
        ) from error
    return COCO, COCOeval


def results_list(
    detections: Sequence[Detections], ids: Sequence[str | int], categories: Sequence[int], masks: bool = False
) -> list[dict[str, Any]]:
    """Return detections in the format of COCO's result files.

    Args:
        detections: the detections in each image, in its pixels.
        ids: id of each image.
        categories: category id of each class.
        masks: whether the results are masks, in compressed run-length encoding, instead of boxes; this requires
            pycocotools.
    """
    results = []
    for id, found in zip(ids, detections, strict=True):
        shapes: list[dict[str, Any]] = [{"bbox": _xywh(box)} for box in found.boxes]
        if masks:
            shapes = [{"segmentation": _compressed(mask)} for mask in found.masks or ()]
        for score, label, shape in zip(found.scores, found.labels, shapes, strict=True):
            results.append({"image_id": id, "category_id": int(categories[label]), "score": float(score), **shape})
    return results


def _compressed(mask: ObjectMask) -> dict[str, Any]:
    """A mask in COCO's compressed run-length encoding, as text."""
    from pycocotools import mask as coco_masks

    encoded = coco_masks.frPyObjects(mask.encoded().to_coco(), *mask.size)
    return {"size": list(mask.size), "counts": encoded["counts"].decode()}


def _xywh(box: np.ndarray) -> list[float]:
    """Left, top, width and height of a box as top, left, bottom, right."""
    top, left, bottom, right = map(float, box)
    return [left, top, right - left, bottom - top]


def plot(result: VocResult, path: str | os.PathLike) -> None:
    """Draw precision over recall of each class."""
    with plots.figure(path, 6, 5, dpi=120) as figure:
        axes = figure.subplots()
        for name, curve, average in zip(result.class_names, result.curves, result.averages(), strict=True):
            axes.plot(curve.recall, curve.precision, label=plots.label(f"{name}: {average:.1f} %"))
        title = counted(result.images, "image")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=title)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, ncols=1 + len(result.class_names) // 12)


COLORS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#800000", "#808000", "#000075")


def draw(
    pixels: np.ndarray, detections: Detections, class_names: Sequence[str], score_thresh: float = 0.5
) -> Image.Image:
    """Draw the boxes of detections, with class and probability, and their masks if they have some.

    Args:
        pixels: u8[H,W,3].
        detections: the detections in pixels of the image.
        class_names: names of the classes.
        score_thresh: lowest probability to draw.
    """
    masks = detections.masks or (None,) * len(detections.labels)
    rows = [row for row in zip(*detections[:3], masks, strict=True) if row[1] >= score_thresh]
    pixels = pixels.copy()
    for _, _, label, mask in reversed(rows):  # the best one last, on top
        if mask is not None:
            _paint(pixels, mask.draw(), ImageColor.getrgb(COLORS[label % len(COLORS)]))
    image = Image.fromarray(pixels)
    canvas = ImageDraw.Draw(image)
    font = plots.pillow_font()
    width = max(1, round(max(image.size) / 300))
    for box, score, label, _ in rows:
        top, left, bottom, right = (round(float(side)) for side in box)
        color = COLORS[label % len(COLORS)]
        canvas.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=color, width=width)
        text = plots.label(f"{class_names[label]} {score:.2f}", fallbacks=False).replace(r"\$", "$")
        place = canvas.textbbox((left, max(top - 12, 0)), text, font=font)
        canvas.rectangle(place, fill=color)
        canvas.text((left, max(top - 12, 0)), text, fill="white", font=font)
    return image


def _paint(pixels: np.ndarray, mask: np.ndarray, color: tuple[int, ...], alpha: float = 0.45) -> None:
    """Paint a mask bool[H,W] over an image u8[H,W,3] in place, with an outline."""
    inside = np.pad(mask, 1)
    inner = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    pixels[mask] = np.rint((1 - alpha) * pixels[mask] + alpha * np.array(color[:3]))
    pixels[mask & ~inner] = color[:3]


def write_pictures(
    detections: Sequence[Detections],
    annotations: Sequence[Annotation],
    class_names: Sequence[str],
    folder: str | os.PathLike,
    count: int = 8,
    score_thresh: float = 0.5,
    transform: DetectionTransform | None = None,
) -> list[pathlib.Path]:
    """Write images with their detections, spread evenly over the split.

    Args:
        detections: the detections in each image.
        annotations: the images.
        class_names: names of the classes.
        folder: folder of the files, created if missing.
        count: maximum number of images to write.
        score_thresh: lowest probability to draw.
        transform: the transform that decodes the images, by default without their EXIF orientation.

    Returns:
        The files, named by their number in the split and the name of the image file.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in np.unique(np.linspace(0, len(annotations) - 1, min(count, len(annotations))).round().astype(int)):
        path = pathlib.Path(annotations[number].path)
        pixels = codecs.read(str(path), transform.decode if transform else codecs.decode).numpy()
        files.append(folder / f"{number}_{path.stem}.png")
        draw(pixels, detections[number], class_names, score_thresh).save(files[-1])
    return files
