"""The options of an evaluation. TensorFlow is not imported here, so that the command line starts quickly."""

from __future__ import annotations

import dataclasses

from keras_resnet.errors import InputError
from keras_resnet.evaluation.choices import AVERAGES, PROTOCOLS, SCALES
from keras_resnet.experiment.config import Options, option


@dataclasses.dataclass(frozen=True)
class EvalConfig(Options):
    """The options of an evaluation; each field is a flag of `keras-resnet evaluate`."""

    views: tuple[str, ...] = option(
        ("single",),
        "Any of single, ten_crop and multi_scale; the table has a row for each.",
        "evaluation",
        choices=PROTOCOLS,
    )
    scales: tuple[int, ...] = option(SCALES, "Shorter sides of multi_scale in pixels.", "evaluation")
    mirror_views: bool = option(False, "Add the mirrored images to multi_scale.", "evaluation")
    resize: int | None = option(
        None, "Shorter side before cropping; by default that of each network.", "evaluation", minimum=1
    )
    average: str = option(
        "probabilities",
        "What is averaged over views and networks: probabilities or logits.",
        "evaluation",
        choices=AVERAGES,
    )
    recalibrate: int = option(
        0,
        "Recompute the batch norm statistics over this many training images first; 0 for none.",
        "evaluation",
        minimum=0,
    )
    batch_size: int = option(256, "Images in a batch, all views counted.", "hardware", minimum=1)

    def __post_init__(self) -> None:
        if not self.views:
            raise InputError("views must name at least one view; got none.")
        super().__post_init__()
