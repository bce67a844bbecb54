"""How a classifier is evaluated: views, scales, averaging."""

from __future__ import annotations

import dataclasses

from keras_resnet.errors import InputError, check_choice
from keras_resnet.experiment.config import Options, option

PROTOCOLS = ("single", "ten_crop", "multi_scale")
AVERAGES = ("probabilities", "logits")


@dataclasses.dataclass(frozen=True)
class EvalConfig(Options):
    """The options of an evaluation; each field is a flag of `keras-resnet evaluate`."""

    views: tuple[str, ...] = option(
        ("single",), "Any of single, ten_crop and multi_scale; the table has a row for each.", "evaluation"
    )
    scales: tuple[int, ...] = option((224, 256, 384, 480, 640), "Shorter sides of multi_scale in pixels.", "evaluation")
    mirror_views: bool = option(False, "Add the mirrored images to multi_scale.", "evaluation")
    resize: int | None = option(
        None, "Shorter side before the crops; by default that of each network.", "evaluation", minimum=1
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
        super().__post_init__()
        if not self.views:
            raise InputError("views must name at least one view; got none.")
        for view in self.views:
            check_choice("views", view, PROTOCOLS)
