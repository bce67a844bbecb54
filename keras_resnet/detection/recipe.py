"""Settings for a data set that has no preset: sizes, anchors, steps and rates from its images and boxes.

Each choice is a sentence that the command prints. A flag that is given is never changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from keras_resnet.data.dataset import usual_split
from keras_resnet.detection.config import DetectorConfig
from keras_resnet.detection.data import sources
from keras_resnet.detection.data.annotations import Annotation, DetectionDataset
from keras_resnet.distribute import precision
from keras_resnet.errors import counted

SMALL_BOX = 32.0
"""Side in pixels that nearly all boxes should have after resizing: two cells of the feature map."""

SIDES = {"CPU": (256, 480), "GPU": (400, 800)}
"""Device -> smallest and largest shorter side of an image."""

BATCH_SIZE = 4
RATE_PER_IMAGE = 0.0025
"""Learning rate for each image of a batch."""

PASSES = {"CPU": 8, "GPU": 16}
"""Device -> times that each training image is seen, within `IMAGES`."""

IMAGES = (1_200, 1_500_000)
"""Fewest and most images that a run sees in total."""

EVALUATIONS = 4
HELD_OUT = 15
"""Percent of the training images to evaluate on if the data set has no images for that."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """Values of some fields of a configuration, and why."""

    values: dict[str, Any]
    reason: str

    def text(self) -> str:
        """Return one line: the values, then the reason."""
        values = ", ".join(f"{name} {_text(value)}" for name, value in self.values.items())
        return f"  {values}: {self.reason}"


def recipe(config: DetectorConfig, given: Collection[str]) -> tuple[DetectorConfig, list[str]]:
    """Choose the settings that were not given, from the data set.

    Args:
        config: the configuration with the data set and the given fields.
        given: names of the fields that were given, which are not changed.

    Returns:
        The configuration, and lines that say what was chosen and why; both unchanged and empty for a data set that is
        no folder.

    Raises:
        ValueError: the data set cannot be read.
    """
    if not config.dataset.startswith("folder:"):
        return config, []
    dataset = sources.load(
        config.dataset, config.data_dir, config.download, config.class_names, config.exif, config.seed
    )
    splits = _splits(dataset)
    given_splits = {name: getattr(config, name) for name in splits.values if name in given}
    annotations = dataset.annotations({**splits.values, **given_splits}["train_split"], "train_split")
    choices = [splits, *choose(annotations, config, "GPU" if precision.has_gpu() else "CPU")]
    kept = []
    for choice in choices:
        values = {name: value for name, value in choice.values.items() if name not in given}
        if values:
            kept.append(Choice(values, choice.reason))
    changes = {name: value for choice in kept for name, value in choice.values.items()}
    boxes = counted(sum(len(annotation.labels) for annotation in annotations), "box", "boxes")
    title = (
        f"settings for {counted(len(annotations), 'training image')} with {boxes} of "
        f"{counted(len(dataset.info.class_names), 'class', 'classes')}; each is a flag of the same name:"
    )
    return dataclasses.replace(config, **changes), [title, *(choice.text() for choice in kept)]


def choose(annotations: Sequence[Annotation], config: DetectorConfig, device: str = "CPU") -> list[Choice]:
    """Return the settings for some training images.

    Args:
        annotations: the training images; at least one has a box.
        config: the given settings: later choices depend on its sizes and batch size if they differ from the defaults.
        device: "CPU" or "GPU".
    """
    default = DetectorConfig()
    size = _sizes(annotations, device, config.min_size if config.min_size != default.min_size else None)
    sides = dict(size.values)
    if config.max_size != default.max_size:
        sides["max_size"] = config.max_size
    count = len(annotations)
    batch = (
        config.batch_size if config.batch_size != default.batch_size else min(BATCH_SIZE, _largest_group(annotations))
    )
    steps = _steps(count, batch, device)
    total = config.steps if config.steps != default.steps else steps.values["steps"]
    policy, why = precision.fastest()
    return [
        Choice({"backbone": "resnet50"}, "accurate enough for a first detector, and half as slow as resnet101"),
        size,
        _anchors(annotations, sides["min_size"], sides["max_size"]),
        _regions(annotations, device, config.masks if hasattr(config, "masks") else False),
        Choice({"batch_size": batch}, "several images share the cost of updating the weights"),
        steps,
        _rates(batch, total),
        Choice({"eval_steps": -(-total // EVALUATIONS)}, f"{EVALUATIONS} evaluations"),
        Choice({"checkpoint_steps": 100}, "an interrupted run repeats at most 100 steps"),
        Choice({"precision": policy}, why),
        Choice(
            {"max_broken": round(max(0.01, 1.01 / count), 4)},
            "one image, or one in a hundred, that cannot be decoded is named and skipped; more end the run",
        ),
    ]


def _splits(dataset: DetectionDataset) -> Choice:
    """The splits to train and evaluate on; never the one called test, which is for the final number."""
    by_usual_name = {usual_split(name): name for name in reversed(list(dataset.info.splits))}
    train = by_usual_name.get("train", next(iter(dataset.info.splits)))
    if val := by_usual_name.get("val"):
        return Choice({"train_split": train, "eval_split": val}, "the splits of the data set")
    kept = 100 - HELD_OUT
    return Choice(
        {"train_split": f"{train}[:{kept}%]", "eval_split": f"{train}[{kept}%:]"},
        "the data set has no split to evaluate on during training",
    )


def _sides(annotations: Sequence[Annotation]) -> np.ndarray:
    """Height and width of all boxes as shares of the shorter side of their image, f64[n,2]."""
    rows = []
    for annotation in annotations:
        boxes = annotation.clipped_boxes()
        rows.append((boxes[:, 2:] - boxes[:, :2]) / min(annotation.size))
    return np.concatenate(rows)


def _sizes(annotations: Sequence[Annotation], device: str, given: int | None) -> Choice:
    """The smallest image size at which nearly all boxes cover a few cells of the feature map."""
    side = float(np.quantile(np.sqrt(np.prod(_sides(annotations), -1)), 0.05))
    low, high = SIDES[device]
    wanted = SMALL_BOX / side
    min_size = given or int(np.clip(16 * round(wanted / 16), low, high))
    ratio = float(np.quantile([max(annotation.size) / min(annotation.size) for annotation in annotations], 0.75))
    max_size = 16 * -(-round(min_size * min(ratio, 2.0)) // 16)
    reason = f"95 % of the boxes then have sides (as squares of their area) of {side * min_size:.0f} pixels or more"
    if min_size == low and wanted < low and not given:
        reason += f", and images are not made smaller than {low}"
    if min_size == high and wanted > high and not given:
        reason += f"; {SMALL_BOX:.0f} would be better, but a {device} takes long for larger images"
    return Choice({"min_size": min_size, "max_size": max(max_size, min_size)}, reason)


def _anchors(annotations: Sequence[Annotation], min_size: int, max_size: int) -> Choice:
    """Anchors over the range of the boxes' sizes, in factors of two or less, and their usual ratios."""
    scale = np.concatenate(
        [
            np.full(len(annotation.labels), min(min_size / min(annotation.size), max_size / max(annotation.size)))
            * min(annotation.size)
            for annotation in annotations
        ]
    )
    shares = _sides(annotations)
    sides = np.sqrt(np.prod(shares, -1)) * scale
    low, high = np.quantile(sides, (0.02, 0.98))
    count = int(np.clip(np.ceil(np.log2(high / low)) + 1, 2, 5))
    scales = tuple(sorted({float(round(value)) for value in np.geomspace(low, high, count)}))
    ratios = tuple(round(float(value), 2) for value in np.quantile(shares[:, 0] / shares[:, 1], (0.1, 0.5, 0.9)))
    smallest = max(2.0, float(np.floor(np.quantile(sides, 0.01) / 2)))
    return Choice(
        {
            "anchor_scales": scales,
            "anchor_ratios": tuple(sorted(set(ratios))),
            "straddle_thresh": -1.0,
            "min_proposal_size": min(smallest, 16.0),
        },
        f"the boxes have sides of {low:.0f} to {high:.0f} pixels and heights of {ratios[0]} to {ratios[-1]} widths "
        "(nearly all boxes; anchors at the border are trained too)",
    )


def _regions(annotations: Sequence[Annotation], device: str, masks: bool) -> Choice:
    """Proposals and sampled regions: few on a CPU."""
    boxes = int(np.quantile([len(annotation.labels) for annotation in annotations], 0.9))
    most = max(len(annotation.labels) for annotation in annotations)
    sampled = 128 if device == "GPU" else 32 if boxes <= 10 else 64
    after_nms = 1_000 if device == "GPU" else int(np.clip(100 * -(-boxes // 5), 200, 500))
    return Choice(
        {
            "roi_pooling": "align",
            "roi_pool_size": 14 if masks or device == "GPU" else 7,
            "roi_batch_size_per_image": sampled,
            "positive_fraction": 0.5 if device == "CPU" else 0.25,
            "pre_nms_topk_train": 6_000 if device == "GPU" else 1_000,
            "post_nms_topk_train": after_nms,
            "pre_nms_topk_test": 6_000 if device == "GPU" else 1_000,
            "post_nms_topk_test": 300 if device == "GPU" else int(np.clip(50 * -(-5 * boxes // 50), 100, 300)),
            "max_gt_boxes": most,
        },
        f"9 of 10 images have at most {counted(boxes, 'box', 'boxes')} and none has more than {most}; for a {device}",
    )


def _largest_group(annotations: Sequence[Annotation]) -> int:
    """Number of images of the more common orientation; a batch holds one orientation."""
    portrait = sum(annotation.is_portrait for annotation in annotations)
    return max(portrait, len(annotations) - portrait)


def _steps(count: int, batch: int, device: str) -> Choice:
    """Steps from the number of images."""
    total = int(np.clip(PASSES[device] * count, *IMAGES))
    steps = -(-total // batch)
    return Choice({"steps": steps}, f"each of the {counted(count, 'image')} is seen {steps * batch / count:.0f} times")


def _rates(batch: int, steps: int) -> Choice:
    """The learning rate for a batch size, with a warm-up."""
    rate = RATE_PER_IMAGE * batch
    warmup = min(max(steps // 15, 1), 500, steps - 1)
    return Choice(
        {
            "learning_rate": rate,
            "warmup_steps": warmup,
            "warmup_rate": rate / 3,
            "schedule": "cosine",
            "decay_steps": (),
            "clip_norm": 5.0,
        },
        f"{RATE_PER_IMAGE} for each image of a batch; the first steps are slower, since the detector's head is new",
    )


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(_text(item) for item in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
