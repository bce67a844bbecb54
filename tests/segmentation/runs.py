"""The configuration of a run on a small data set, for tests that train."""

import pathlib
from typing import Any

from keras_resnet.segmentation.config import SegmenterConfig
from tests.conftest import KERAS_2

AUXILIARY = not KERAS_2
"""On Keras 2, a resumed run may add the gradients of both classifiers in another order, which changes the last bits."""


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
    if KERAS_2:
        defaults["dropout"] = 0.0  # its random draws start over when a run resumes
    return SegmenterConfig(**{**defaults, **options})
