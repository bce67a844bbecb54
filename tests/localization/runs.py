"""Configurations of runs on a few drawn images, for tests that train."""

import pathlib
from typing import Any

from keras_resnet.localization.config import LocalizerConfig

SMALL = {
    "dataset": "synthetic:64x64x3",
    "train_split": "train[:6]",
    "eval_split": "val[:3]",
    "mean": (100.0,) * 3,
    "std": (60.0,) * 3,
    "backbone": "tiny",
    "crop_size": 64,
    "scale_range": (64, 80),
    "scales": (64, 96),
    "rpn_filters": 8,
    "anchor_scales": (24.0, 40.0),
    "anchor_ratios": (1.0,),
    "batch_size": 2,
    "steps": 4,
    "decay_steps": (),
    "eval_steps": 2,
    "proposals": 6,
}


def first(**options: Any) -> LocalizerConfig:
    """Return the configuration of a run of stage 1 of four steps; requires the backbone "tiny"."""
    return LocalizerConfig(**{**SMALL, **options})


def second(stage_one: pathlib.Path | str, **options: Any) -> LocalizerConfig:
    """Return the configuration of a run of stage 2 of four steps on the proposals of a run of stage 1."""
    thresholds = {"positive_iou": 0.5, "negative_iou": 0.5, "stage": 2, "stage_one": str(stage_one)}
    return LocalizerConfig(**{**SMALL, **thresholds, **options})
