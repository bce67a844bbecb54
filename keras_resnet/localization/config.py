"""The configuration of a localizer's run, and the presets."""

from __future__ import annotations

import dataclasses

from keras_resnet.detection.config import BACKBONES
from keras_resnet.errors import InputError, check_choice
from keras_resnet.experiment import names
from keras_resnet.experiment.backbone import FineTunedConfig
from keras_resnet.experiment.config import option
from keras_resnet.localization.choices import PROTOCOLS, SELECTIONS


@dataclasses.dataclass(frozen=True)
class LocalizerConfig(FineTunedConfig):
    """Everything that determines the result of a localizer's run; each field is a flag of the same name."""

    stage: int = option(
        1, "1 for the per-class RPN, 2 for the R-CNN on the proposals of stage_one.", "network", choices=(1, 2)
    )
    stage_one: str = option("", "Folder of the run of stage 1 whose proposals stage 2 uses.", "network", path="file")
    dataset: str = option(
        "",
        "folder:PATH (ILSVRC's or a detection layout), synthetic:HxWxCLASSES or a tensorflow-datasets name.",
        "data",
        path="dataset",
    )
    max_boxes: int = option(20, "Maximum number of boxes per training image.", "data", minimum=1)
    crop_size: int = option(224, "Side of the network's input in pixels.", "augmentation", minimum=32)
    scale_range: tuple[int, ...] = option(
        (256, 480), "Range of the shorter side of an image before a training crop of stage 1.", "augmentation"
    )
    min_coverage: float = option(
        0.5, "Smallest part of a box inside a training crop that keeps it.", "augmentation", minimum=0, maximum=1
    )
    output_stride: int = option(
        32, "Stride of the feature map of the RPN: 8, 16 or 32.", "network", choices=(8, 16, 32)
    )
    rpn_filters: int = option(512, "Filters of the 3x3 convolution of the RPN.", "network", minimum=1)
    anchor_scales: tuple[float, ...] = option((64.0, 128.0, 224.0), "Sides of the anchors in pixels.", "network")
    anchor_ratios: tuple[float, ...] = option((0.5, 1.0, 2.0), "Heights of the anchors over their widths.", "network")
    batch_size_per_image: int = option(
        8, "Anchors sampled per image in a training step of stage 1, half of them positive.", "network", minimum=2
    )
    negative_iou: float = option(
        0.3, "Anchors or proposals are negative if their IoU is below this.", "network", minimum=0, maximum=1
    )
    positive_iou: float = option(
        0.7, "Anchors or proposals are positive from this IoU on.", "network", minimum=0, maximum=1
    )
    positive_fraction: float = option(
        0.5, "Fraction of positive proposals in a training step of stage 2.", "network", minimum=0, maximum=1
    )
    box_loss_weight: float = option(1.0, "Weight of the box loss.", "network", minimum=0)
    context_pixels: int = option(
        0, "Pixels of context around a proposal inside its warped crop; 16 in R-CNN.", "network", minimum=0
    )
    proposals: int = option(200, "Proposals of stage 1 for each class, in training and testing.", "network", minimum=1)
    eval_proposals: int = option(
        0, "Proposals in evaluations during training; 0 for as many as in training.", "evaluation", minimum=0
    )
    proposal_nms_thresh: float = option(
        0.7, "IoU above which NMS drops the weaker proposal; 1 keeps all.", "network", minimum=0, maximum=1
    )
    multiply_scores: bool = option(
        False, "Multiply the scores of stage 2 by those of stage 1 for the proposals.", "evaluation"
    )
    protocol: str = option(
        "single",
        "Views of stage 1 in proposals and in evaluations during training: single (one crop) or dense.",
        "evaluation",
        choices=PROTOCOLS,
    )
    resize: int = option(
        0,
        "Shorter side before the center crop of protocol single; 0 for the whole image, its longer side crop_size.",
        "evaluation",
        minimum=0,
    )
    scales: tuple[int, ...] = option((256,), "Shorter sides of the images of protocol dense.", "evaluation")
    vote_thresh: float = option(
        1.0,
        "Average the boxes whose IoU with the best one is at least this, by their scores; 1 for no voting.",
        "evaluation",
        minimum=0,
        maximum=1,
    )
    batch_size: int = option(
        256, "Images of stage 1, or proposals of stage 2, in a training step.", "optimization", minimum=1
    )
    steps: int = option(60_000, "Training steps.", "optimization", minimum=1)
    learning_rate: float = option(0.01, "Initial learning rate.", "optimization", minimum=0)
    decay_steps: tuple[int, ...] = option(
        (40_000,), "Steps at which the learning rate is divided by 10.", "optimization"
    )
    eval_steps: int = option(5_000, "Steps between evaluations on eval_split.", "run", minimum=1)
    select_by: str = option(
        "error",
        "Measure on eval_split that selects the weights to keep: the lowest error or the highest mean_iou.",
        "run",
        choices=tuple(SELECTIONS),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("backbone", self.backbone, BACKBONES)
        self.check_scales(self.scale_range)
        for name in ("anchor_scales", "anchor_ratios", "scales"):
            values = getattr(self, name)
            if not values or min(values) <= 0:
                raise InputError(f"{name} must be one or more positive numbers; got {list(values)}.")
        if self.negative_iou > self.positive_iou:
            raise InputError(
                f"negative_iou must be at most positive_iou, {self.positive_iou}; got {self.negative_iou}."
            )
        if self.resize and self.resize < self.crop_size:
            raise InputError(f"resize must be 0 or at least crop_size, {self.crop_size}; got {self.resize}.")

    def check_names(self) -> None:
        super().check_names()
        if self.stage == 2:
            if not self.stage_one:
                raise InputError("stage_one must be given for stage 2: --stage_one=FOLDER of the run of stage 1.")
            names.check_run(self.stage_one, "stage_one")


_IMAGENET = LocalizerConfig(dataset="folder:ILSVRC", synchronized_norm=True)
"""Appendix C: batches of 256; the rates, which the paper leaves open, are a tenth of the classifiers' (two decays)."""

_ANIMALS = LocalizerConfig(
    dataset="folder:animals",
    backbone="resnet50",
    scale_range=(100, 224),
    min_coverage=0.7,
    output_stride=16,
    rpn_filters=256,
    anchor_scales=(40.0, 64.0, 96.0, 144.0, 208.0),
    batch_size_per_image=256,
    negative_iou=0.6,
    positive_iou=0.6,
    box_loss_weight=2.0,
    scales=(128, 192),
    vote_thresh=0.6,
    proposals=40,
    freeze_stages=4,
    freeze_norm=True,
    backbone_lr_mult=0.1,
    batch_size=8,
    steps=480,
    optimizer="adamw",
    schedule="cosine",
    learning_rate=1e-3,
    warmup_steps=20,
    warmup_rate=2e-4,
    clip_norm=5.0,
    precision="mixed_bfloat16",
    eval_steps=160,
    select_by="mean_iou",
    checkpoint_steps=50,
)
"""A few hundred images on a CPU: small batches, of which only conv5_x and the head train, and many anchors an image.

No anchor is ignored: those that overlap an object a little too little for a positive one are the negatives from which
the scores learn to prefer tight boxes.
"""

_SYNTHETIC = LocalizerConfig(
    dataset="synthetic:64x64x5",
    backbone="resnet18",
    crop_size=64,
    scale_range=(64, 80),
    scales=(64,),
    output_stride=16,
    anchor_scales=(24.0, 40.0),
    rpn_filters=64,
    batch_size_per_image=32,
    negative_iou=0.4,
    positive_iou=0.6,
    box_loss_weight=2.0,
    proposals=50,
    batch_size=32,
    steps=150,
    optimizer="adamw",
    schedule="cosine",
    learning_rate=1e-3,
    clip_norm=5.0,
    eval_steps=50,
    checkpoint_steps=50,
)
"""One shape on noise, from random weights: a run of minutes that needs no data."""


def _second_stage(config: LocalizerConfig, **changes: object) -> LocalizerConfig:
    """The R-CNN that follows a stage 1: the same network and data."""
    values = {"stage": 2, "positive_iou": 0.5, "negative_iou": 0.5} | changes
    return dataclasses.replace(config, **values)  # type: ignore[arg-type]


PRESETS = {
    "imagenet_loc_resnet101": _IMAGENET,
    "imagenet_loc_resnet101_rcnn": _second_stage(_IMAGENET),
    "animals_loc_resnet50": _ANIMALS,
    "animals_loc_resnet50_rcnn": _second_stage(
        _ANIMALS,
        protocol="dense",
        output_stride=32,
        positive_iou=0.6,
        negative_iou=0.6,
        context_pixels=16,
        eval_proposals=20,
        batch_size=32,
        steps=160,
        warmup_steps=10,
        eval_steps=160,
        checkpoint_steps=20,
    ),
    "synthetic_loc_resnet18": _SYNTHETIC,
    "synthetic_loc_resnet18_rcnn": _second_stage(
        _SYNTHETIC, output_stride=32, batch_size=64, steps=200, eval_steps=100
    ),
}
"""Name -> configuration, `dataset_loc_backbone`, with `_rcnn` for stage 2."""
