"""The configurations of Faster R-CNN and of a detector's run, and the presets.

The names follow detectron2.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, TypeVar

from keras_resnet.errors import InputError, check_choice, did_you_mean
from keras_resnet.experiment import names
from keras_resnet.experiment.backbone import BackboneConfig
from keras_resnet.experiment.config import Options, option
from keras_resnet.models.architectures import ARCHITECTURES, Architecture

BACKBONES = {name.lower(): net for name, net in ARCHITECTURES.items() if net.stem == "imagenet"}
"""Name -> architecture of the networks that can be a backbone."""

ConfigT = TypeVar("ConfigT", bound="FasterRCNNConfig")


@dataclasses.dataclass(frozen=True)
class FasterRCNNConfig(Options):
    """The options of Faster R-CNN besides its classes (appendix A of the paper; Ren et al., 2015).

    `backbone` is the name of a network, or an `Architecture`.
    """

    RENAMED: ClassVar[dict[str, str | tuple[str, ...]]] = {
        "straddle": "straddle_thresh",
        "smallest": "min_proposal_size",
        "rpn_batch": "rpn_batch_size_per_image",
        "train_proposals": ("pre_nms_topk_train", "post_nms_topk_train"),
        "test_proposals": ("pre_nms_topk_test", "post_nms_topk_test"),
        "regions": "roi_batch_size_per_image",
        "positive_share": "positive_fraction",
        "background": "bg_iou_low",
        "pool_size": "roi_pool_size",
        "score": "score_thresh",
        "overlap": "nms_thresh",
        "detections": "detections_per_image",
    }

    # An `Architecture` is frozen, so a shared default is safe.
    backbone: str | Architecture = option(  # noqa: RUF009
        "resnet101", "Network: resnet50, resnet101, plainnet34, ...", "network"
    )
    anchor_scales: tuple[float, ...] = option((128.0, 256.0, 512.0), "Sides of the anchors in pixels.", "network")
    anchor_ratios: tuple[float, ...] = option((0.5, 1.0, 2.0), "Heights of the anchors over their widths.", "network")
    anchor_offset: float = option(
        0.5, "Center of the first anchors in strides: 0.5 as in Caffe's Faster R-CNN; Detectron2's is 0.", "network"
    )
    straddle_thresh: float = option(
        0.0,
        "Pixels by which an anchor may extend beyond the image and still be trained; negative to train all anchors.",
        "network",
    )
    rpn_filters: int = option(512, "Filters of the 3x3 convolution of the RPN.", "network", minimum=1)
    rpn_batch_size_per_image: int = option(256, "Anchors sampled per image in a training step.", "network", minimum=1)
    min_proposal_size: float = option(16.0, "Smallest side of a proposal in pixels.", "network", minimum=0)
    pre_nms_topk_train: int = option(12_000, "Proposals before NMS in training.", "network", minimum=1)
    post_nms_topk_train: int = option(2_000, "Proposals after NMS in training.", "network", minimum=1)
    pre_nms_topk_test: int = option(6_000, "Proposals before NMS in testing.", "network", minimum=1)
    post_nms_topk_test: int = option(300, "Proposals after NMS in testing.", "network", minimum=1)
    roi_batch_size_per_image: int = option(128, "Regions sampled per image in a training step.", "network", minimum=1)
    positive_fraction: float = option(
        0.25, "Largest fraction of positive regions among them.", "network", minimum=0, maximum=1
    )
    bg_iou_low: float = option(
        0.0,
        "Regions whose highest IoU with an object is below this are not sampled as background; 0.1 for VOC.",
        "network",
    )
    roi_pooling: str = option("max", "max (the paper's) or align.", "network", choices=("max", "align"))
    roi_pool_size: int = option(14, "Rows and columns of the grid of a pooled region.", "network", minimum=1)
    context: bool = option(
        False, "Append the features of the whole image to those of each region (appendix B).", "network"
    )
    masks: bool = option(
        False,
        "Predict the mask of each object too (Mask R-CNN); the data set must have masks.",
        "network",
    )
    freeze_at: int = option(2, "The last stage that is not trained.", "network", minimum=0)
    score_thresh: float = option(0.05, "Lowest probability of a detection.", "network")
    nms_thresh: float = option(0.3, "IoU above which NMS suppresses the weaker box of a class.", "network")
    detections_per_image: int = option(100, "Maximum number of detections per image.", "network", minimum=1)
    refine: bool = option(False, "Refine boxes iteratively and vote in testing (appendix B).", "network")
    region_chunk: int = option(
        64,
        "Regions that go through conv5_x together in testing, which bounds the memory.",
        "network",
        minimum=1,
        affects_result=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("freeze_at", self.freeze_at, range(len(self.architecture.stages) + 2))
        for name in ("anchor_scales", "anchor_ratios"):
            values = getattr(self, name)
            if not values or min(values) <= 0:
                raise InputError(f"{name} must be one or more positive numbers; got {list(values)}.")

    @property
    def architecture(self) -> Architecture:
        """The backbone."""
        if isinstance(self.backbone, Architecture):
            return self.backbone
        check_choice("backbone", self.backbone, BACKBONES)
        return BACKBONES[self.backbone]

    def replace(self: ConfigT, **options: Any) -> ConfigT:
        """Return the configuration with some options changed.

        Raises:
            ValueError: an unknown option, or a value that is not allowed.
        """
        for name in options:
            if name not in self.field_names():
                raise InputError(
                    f"options of a detector must be fields of {type(self).__name__}; "
                    f"got {name!r}{did_you_mean(name, self.field_names())}."
                )
        changes: dict[str, Any] = {}
        for name, value in options.items():
            changes[name] = tuple(value) if isinstance(value, list) else value
        return dataclasses.replace(self, **changes)


@dataclasses.dataclass(frozen=True)
class DetectorConfig(FasterRCNNConfig, BackboneConfig):
    """Everything that determines the result of a detector's run; each field is a flag of the same name."""

    RENAMED: ClassVar[dict[str, str | tuple[str, ...]]] = FasterRCNNConfig.RENAMED | {
        "shorter": "min_size",
        "longer": "max_size",
        "flip": "vertical_flip",
        "max_boxes": "max_gt_boxes",
        "weights": "backbone_weights",
        "start": "init_weights",
    }

    backbone: str = option("resnet101", "Network: resnet50, resnet101, plainnet34, ...", "network")
    dataset: str = option(
        "voc/2007",
        "folder:PATH (in VOC's, COCO's, Roboflow's or YOLO's layout) or a tensorflow-datasets name.",
        "data",
        path="dataset",
    )
    extra_dataset: str = option(
        "",
        "A second data set of the same classes, whose train_split is added to the training images.",
        "data",
        path="dataset",
    )
    class_names: tuple[str, ...] = option(
        (), "Classes of a folder in order; by default all that occur, sorted, or COCO's by their number.", "data"
    )
    train_split: str = option("train+validation", "Split to train on, or several joined by +.", "data")
    min_size: int = option(600, "Shorter side of an image in pixels.", "data", minimum=1)
    max_size: int = option(1000, "Maximum length of the longer side in pixels.", "data", minimum=1)
    max_gt_boxes: int = option(100, "Maximum number of ground-truth boxes per training image.", "data", minimum=1)
    vertical_flip: bool = option(False, "Flip half of the training images upside down.", "augmentation")
    training: str = option(
        "joint",
        "joint (one loss) or alternating (the four steps of Faster R-CNN).",
        "optimization",
        choices=("joint", "alternating"),
    )
    batch_size: int = option(1, "Images in a training step.", "optimization", minimum=1)
    steps: int = option(
        80_000, "Training steps; with alternating training, steps of each of the four.", "optimization", minimum=1
    )
    learning_rate: float = option(1e-3, "Initial learning rate.", "optimization", minimum=0)
    warmup_rate: float = option(1e-4, "Learning rate during warm-up.", "optimization", minimum=0)
    decay_steps: tuple[int, ...] = option(
        (60_000,), "Steps at which the learning rate is divided by 10.", "optimization"
    )
    eval_steps: int = option(5_000, "Steps between evaluations on eval_split.", "run", minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_size < self.min_size:
            raise InputError(f"max_size must be at least min_size, {self.min_size}; got {self.max_size}.")

    def check_names(self) -> None:
        super().check_names()
        names.check_dataset(self.extra_dataset, self.data_dir, "extra_dataset")

    def network(self) -> FasterRCNNConfig:
        """Return the options of the network alone."""
        return FasterRCNNConfig(**{name: getattr(self, name) for name in FasterRCNNConfig.field_names()})


_VOC = DetectorConfig(bg_iou_low=0.1)
"""Faster R-CNN's schedule for PASCAL VOC: 6e4 steps at 1e-3, 2e4 at 1e-4."""

_COCO = DetectorConfig(
    dataset="coco/2014",
    train_split="train",
    eval_split="validation",
    anchor_scales=(64.0, 128.0, 256.0, 512.0),
    steps=320_000,
    decay_steps=(240_000,),
    batch_size=8,
    eval_steps=20_000,
)
"""Appendix A for COCO: 24e4 steps at 1e-3, 8e4 at 1e-4, 8 images a step."""

_BCCD = DetectorConfig(
    dataset="folder:BCCD",
    train_split="train",
    eval_split="val",
    min_size=240,
    max_size=320,
    vertical_flip=True,
    backbone="resnet50",
    anchor_scales=(16.0, 32.0, 64.0, 128.0),
    straddle_thresh=-1.0,
    min_proposal_size=4.0,
    pre_nms_topk_train=1_000,
    post_nms_topk_train=300,
    pre_nms_topk_test=1_000,
    post_nms_topk_test=100,
    roi_batch_size_per_image=32,
    positive_fraction=0.5,
    roi_pooling="align",
    steps=2_336,
    learning_rate=5e-3,
    warmup_steps=50,
    warmup_rate=1e-3,
    decay_steps=(1_752,),
    clip_norm=5.0,
    precision="mixed_bfloat16",
    max_gt_boxes=32,
    eval_steps=292,
    checkpoint_steps=100,
)
"""Blood cells on a CPU: small images, few regions, 8 times 292 steps."""

_COCO_MASKS = DetectorConfig(
    dataset="folder:COCO",
    train_split="train2017",
    eval_split="val2017",
    min_size=800,
    max_size=1333,
    backbone="resnet50",
    anchor_scales=(32.0, 64.0, 128.0, 256.0, 512.0),
    straddle_thresh=-1.0,
    min_proposal_size=0.0,
    post_nms_topk_test=1_000,
    roi_batch_size_per_image=512,
    roi_pooling="align",
    masks=True,
    nms_thresh=0.5,
    batch_size=16,
    learning_rate=0.02,
    warmup_steps=1_000,
    warmup_rate=2e-5,
    steps=270_000,
    decay_steps=(210_000, 250_000),
    eval_steps=20_000,
)
"""Detectron2's Mask R-CNN on ResNet-C4, schedule 3x, without its training at several scales."""

_CAMVID_MASKS = dataclasses.replace(
    _BCCD,
    dataset="folder:CAMVID",
    min_size=360,
    max_size=480,
    vertical_flip=False,
    anchor_scales=(16.0, 32.0, 64.0, 128.0, 256.0),
    anchor_ratios=(0.5, 1.0, 2.0, 3.0),
    masks=True,
    steps=2_936,
    decay_steps=(2_202,),
    eval_steps=367,
)
"""Cars and pedestrians of `examples/instances_from_masks.py` on a CPU: 8 times 367 steps."""

PRESETS = {
    "voc07_resnet101": _VOC,
    "voc0712_resnet101": dataclasses.replace(_VOC, extra_dataset="voc/2012", steps=110_000, decay_steps=(80_000,)),
    "coco_resnet101": _COCO,
    "coco_resnet101_faster_rcnn_rates": dataclasses.replace(_COCO, learning_rate=3e-3),
    "coco_mask_resnet50": _COCO_MASKS,
    "coco_mask_resnet101": dataclasses.replace(_COCO_MASKS, backbone="resnet101"),
    "camvid_mask_resnet50": _CAMVID_MASKS,
    "bccd_resnet50": _BCCD,
    "bccd_resnet50_large": dataclasses.replace(
        _BCCD,
        min_size=480,
        max_size=640,
        anchor_scales=(32.0, 64.0, 128.0, 256.0),
        min_proposal_size=8.0,
        pre_nms_topk_train=2_000,
        post_nms_topk_train=500,
        pre_nms_topk_test=2_000,
        post_nms_topk_test=150,
        roi_batch_size_per_image=64,
    ),
}
"""Name -> configuration, `dataset_backbone`; the rates of the second COCO preset are those of Ren et al., 2015."""
