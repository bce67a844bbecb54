"""The configuration of a run on a small data set, for tests that train."""

import pathlib
from typing import Any

from keras_resnet.segmentation.config import SegmenterConfig


def config(root: pathlib.Path | str, **options: Any) -> SegmenterConfig:
    """Return the configuration of a run of four steps on the data set in `root`; requires the backbone "tiny"."""
    defaults: dict[str, Any] = {
        "dataset": f"folder:{root}",
        "mean": (100.0,) * 3,
        "std": (60.0,) * 3,
        "crop_size": (32, 32),
        "head": "fcn",
        "backbone": "tiny",
        "batch_size": 2,
        "steps": 4,
        "eval_steps": 2,
    }
    return SegmenterConfig(**{**defaults, **options})
