"""The configuration of a detector's run: one frozen dataclass, one preset for each experiment, to and from JSON."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from keras_resnet.config import Values, option
from keras_resnet.errors import InputError, check_choice


@dataclasses.dataclass(frozen=True)
class DetectorConfig(Values):
    """Everything that decides the result of a run. Each field is a flag of `examples/train_detector.py`."""

    dataset: str = option("voc/2007", "folder:PATH (VOC's or COCO's layout) or a set of tensorflow-datasets.")
    extra_dataset: str = option("", "Another one with the same classes, whose train_split is trained on too.")
    data_dir: str | None = option(None, "Folder of prepared tensorflow-datasets; by default theirs.")
    download: bool = option(False, "Download and prepare the data set where it is missing.")
    class_names: tuple[str, ...] = option((), "Classes of a VOC folder in order; by default all it has, sorted.")
    train_split: str = option("train+validation", "Split to train on, or several joined by +.")
    eval_split: str = option("test", "Split to evaluate on during training.")
    shorter: int = option(600, "Pixels of an image's shorter side.")
    longer: int = option(1000, "The longer side has at most so many pixels.")
    mean: tuple[float, ...] = option((), "What is subtracted from the RGB channels; by default as for weights.")
    std: tuple[float, ...] = option((), "What they are divided by; by default as for weights.")
    mirror: bool = option(True, "Mirror half of the training images.")
    flip: bool = option(False, "Turn half of the training images upside down.")
    max_boxes: int = option(100, "Most boxes of a training image.")
    backbone: str = option("resnet101", "Network: resnet50, resnet101, plainnet34, ...")
    weights: str = option("", "Name or file of the weights of the backbone's classification network to start from.")
    start: str = option("", "The .weights.h5 file of a detector with the same layers to start from.")
    anchor_scales: tuple[float, ...] = option((128.0, 256.0, 512.0), "Sides of the anchors in pixels.")
    anchor_ratios: tuple[float, ...] = option((0.5, 1.0, 2.0), "Heights of the anchors over their widths.")
    straddle: float = option(0.0, "Anchors this many pixels outside are not trained; negative to train all.")
    smallest: float = option(16.0, "Smallest side of a proposal in pixels.")
    train_proposals: tuple[int, ...] = option((12_000, 2_000), "Proposals before and after suppression, training.")
    test_proposals: tuple[int, ...] = option((6_000, 300), "Proposals before and after suppression, testing.")
    regions: int = option(128, "Regions of an image in a training step.")
    positive_share: float = option(0.25, "Most positive ones among them.")
    background: float = option(0.0, "Regions that overlap an object less are left out; 0.1 for VOC.")
    roi_pooling: str = option("max", "max (the paper's) or align.")
    context: bool = option(False, "Join the features of the whole image to each region's.")
    freeze_at: int = option(2, "The last stage that is not trained.")
    score: float = option(0.05, "Lowest probability of a detection.")
    overlap: float = option(0.3, "Overlap above which the weaker box of a class is suppressed.")
    detections: int = option(100, "Most detections of an image.")
    refine: bool = option(False, "Box refinement and voting in testing.")
    training: str = option("joint", "joint (one loss) or alternating (the four steps of Faster R-CNN).")
    batch_size: int = option(1, "Images in a training step.")
    steps: int = option(80_000, "Training steps; of each of the four in alternating training.")
    optimizer: str = option("sgd", "sgd (the paper's), sgdw (decoupled decay), adamw or lamb.")
    schedule: str = option("piecewise", "piecewise (divided by 10 at decay_steps) or cosine.")
    learning_rate: float = option(1e-3, "Initial learning rate.")
    warmup_steps: int = option(0, "Steps at warmup_rate before learning_rate.")
    warmup_rate: float = option(1e-4, "Learning rate of the warm-up.")
    decay_steps: tuple[int, ...] = option((60_000,), "Steps at which the learning rate is divided by 10.")
    momentum: float = option(0.9, "Momentum of SGD, first beta of AdamW and LAMB.")
    nesterov: bool = option(False, "Nesterov's momentum, for SGD.")
    weight_decay: float = option(1e-4, "Weight decay.")
    decay_norm: bool = option(True, "Decay biases too.")
    clip_norm: float = option(0.0, "Largest norm of all gradients together; 0 for no limit.")
    precision: str = option("float32", "Dtype policy of the convolutions: float32, mixed_bfloat16 or mixed_float16.")
    seed: int = option(0, "Seed of initialisation, order, mirroring and sampling.")
    eval_steps: int = option(5_000, "Steps between evaluations on eval_split.")
    checkpoint_steps: int = option(500, "Steps between checkpoints; there is one at each evaluation too.")

    warmup_error: ClassVar[float] = 0.0
    """Detectors have no error that a warm-up could wait for."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps", "eval_steps", "checkpoint_steps", "regions", "max_boxes", "shorter"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1; got {getattr(self, name)}.")
        for name in ("warmup_steps", "learning_rate", "momentum", "weight_decay", "clip_norm", "seed", "smallest"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative; got {getattr(self, name)}.")
        if self.longer < self.shorter:
            raise InputError(f"longer must be at least shorter, {self.shorter}; got {self.longer}.")
        for name in ("train_proposals", "test_proposals"):
            if len(getattr(self, name)) != 2 or min(getattr(self, name)) < 1:
                raise InputError(f"{name} must be two positive numbers; got {list(getattr(self, name))}.")
        if list(self.decay_steps) != sorted(set(self.decay_steps)):
            raise InputError(f"decay_steps must increase; got {list(self.decay_steps)}.")
        if len(self.mean) not in (0, 3) or len(self.std) != len(self.mean):
            raise InputError(f"mean and std must be three numbers each, or none; got {self.mean} and {self.std}.")
        if not self.anchor_scales or not self.anchor_ratios:
            raise InputError("anchor_scales and anchor_ratios must not be empty.")
        check_choice("roi_pooling", self.roi_pooling, ("max", "align"))
        check_choice("training", self.training, ("joint", "alternating"))
        check_choice("schedule", self.schedule, ("piecewise", "cosine"))
        check_choice("optimizer", self.optimizer, ("sgd", "sgdw", "adamw", "lamb"))
        check_choice("precision", self.precision, ("float32", "mixed_bfloat16", "mixed_float16"))

    def detector_options(self) -> dict:
        """The arguments of `detection.faster_rcnn` but for the classes."""
        names = (
            "backbone",
            "anchor_scales",
            "anchor_ratios",
            "straddle",
            "smallest",
            "train_proposals",
            "test_proposals",
            "regions",
            "positive_share",
            "background",
            "roi_pooling",
            "context",
            "freeze_at",
            "score",
            "overlap",
            "detections",
            "refine",
        )
        return {name: getattr(self, name) for name in names} | {"policy": self.precision}


_VOC = DetectorConfig(background=0.1)
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
    shorter=240,
    longer=320,
    flip=True,
    backbone="resnet50",
    anchor_scales=(16.0, 32.0, 64.0, 128.0),
    straddle=-1.0,
    smallest=4.0,
    train_proposals=(1_000, 300),
    test_proposals=(1_000, 100),
    regions=32,
    positive_share=0.5,
    roi_pooling="align",
    steps=2_336,
    learning_rate=5e-3,
    warmup_steps=50,
    warmup_rate=1e-3,
    decay_steps=(1_752,),
    clip_norm=5.0,
    precision="mixed_bfloat16",
    max_boxes=32,
    eval_steps=292,
    checkpoint_steps=100,
)
"""Blood cells on a CPU: small images, few regions, 8 times 292 steps."""

DETECTOR_PRESETS = {
    "voc07_resnet101": _VOC,
    "voc0712_resnet101": dataclasses.replace(_VOC, extra_dataset="voc/2012", steps=110_000, decay_steps=(80_000,)),
    "coco_resnet101": _COCO,
    "coco_resnet101_faster_rcnn_rates": dataclasses.replace(_COCO, learning_rate=3e-3),
    "bccd_resnet50": _BCCD,
    "bccd_resnet50_large": dataclasses.replace(
        _BCCD,
        shorter=480,
        longer=640,
        anchor_scales=(32.0, 64.0, 128.0, 256.0),
        smallest=8.0,
        train_proposals=(2_000, 500),
        test_proposals=(2_000, 150),
        regions=64,
    ),
}
"""Name -> configuration, `dataset_backbone`; the rates of the second COCO preset are those of Ren et al., 2015."""
