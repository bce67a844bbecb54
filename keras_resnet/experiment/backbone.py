"""What the configurations of detection, segmentation and localization share: a backbone, which is a classifier's."""

from __future__ import annotations

import dataclasses

from keras_resnet.errors import InputError
from keras_resnet.experiment.config import BaseConfig, check_normalization, option
from keras_resnet.models.architectures import canonical


@dataclasses.dataclass(frozen=True)
class BackboneConfig(BaseConfig):
    """The fields of the configurations of tasks whose network is built on the backbone of a classifier."""

    class_names: tuple[str, ...] = option(
        (), "Classes in the order of their labels; by default all that occur, sorted.", "data"
    )
    train_split: str = option("train", "Split to train on, or several joined by +.", "data")
    mean: tuple[float, ...] = option(
        (), "Mean of the RGB channels to subtract; by default that of backbone_weights.", "data"
    )
    std: tuple[float, ...] = option(
        (), "Standard deviation of the RGB channels to divide by; by default that of backbone_weights.", "data"
    )
    exif: bool = option(
        False, "Rotate JPEGs by their EXIF orientation; boxes and masks are those of the rotated images.", "data"
    )
    max_broken: float = option(
        0.001, "Fraction of training images that may fail to decode before the run stops.", "data", minimum=0
    )
    backbone: str = option("resnet101", "Network: resnet50, resnet101, plainnet34, ...", "network")
    backbone_weights: str = option(
        "",
        "Weights of the backbone's classification network to start from: a name or a file.",
        "network",
        path="name",
    )
    init_weights: str = option(
        "", "The .weights.h5 file of a run with the same layers to start from.", "network", path="name"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "backbone", canonical(self.backbone))
        super().__post_init__()
        check_normalization(self.mean, self.std)
        if len(set(self.class_names)) < len(self.class_names):
            raise InputError(f"class_names must be different names; got {', '.join(self.class_names)}.")

    def check_names(self) -> None:
        super().check_names()
        self.check_weights("backbone_weights", "init_weights")


@dataclasses.dataclass(frozen=True)
class FineTunedConfig(BackboneConfig):
    """The further fields of tasks that train any part of the backbone."""

    eval_split: str = option("val", "Split to evaluate on during training.", "data")
    stride_in_1x1: bool = option(
        True, "Bottlenecks have their stride in the first 1x1, as in the paper; off for v1.5.", "network"
    )
    freeze_stages: int = option(
        0,
        "Stages of the backbone to freeze: 1 for conv1, 2 for conv1 and conv2_x, ...",
        "network",
        minimum=0,
        maximum=5,
    )
    freeze_norm: bool = option(
        False, "Freeze the backbone's batch norm layers, including their statistics, for small batches.", "network"
    )
    synchronized_norm: bool = option(False, "Compute batch norm over the whole batch of all replicas.", "network")
    backbone_lr_mult: float = option(
        1.0,
        "Learning rate multiplier of the backbone; 0.1 gives the head ten times its rate.",
        "optimization",
        minimum=0,
    )

    def check_scales(self, scale_range: tuple[float, ...]) -> None:
        """Raise `InputError` unless the field `scale_range` is the range of a positive number."""
        if len(scale_range) != 2 or not 0 < scale_range[0] <= scale_range[1]:
            raise InputError(
                f"scale_range must be two positive numbers, the smallest and the largest; got {list(scale_range)}."
            )
