"""The configuration of a segmenter's run, and the presets."""

from __future__ import annotations

import dataclasses

from keras_resnet.errors import InputError, check_choice
from keras_resnet.experiment.backbone import FineTunedConfig
from keras_resnet.experiment.config import option
from keras_resnet.segmentation.choices import BACKBONES, HEADS, OUTPUT_STRIDES

CLASS_WEIGHTS = ("none", "median_frequency")


@dataclasses.dataclass(frozen=True)
class SegmenterConfig(FineTunedConfig):
    """Everything that determines the result of a segmenter's run; each field is a flag of the same name."""

    dataset: str = option(
        "",
        "folder:PATH of any layout, voc:PATH, cityscapes:PATH, ade20k:PATH, coco:PATH, or a tensorflow-datasets name.",
        "data",
        path="dataset",
    )
    class_names: tuple[str, ...] = option(
        (), "Classes in the order of their labels; by default those of classes.txt or of the layout.", "data"
    )
    label_values: tuple[int, ...] = option(
        (), "Value of each class in the masks, such as 0,255 for two classes; by default 0, 1, 2, ...", "data"
    )
    ignore_labels: tuple[int, ...] = option((), "Values of the masks to ignore, in addition to 255.", "data")
    label_colors: str = option(
        "",
        "Table of the colors of masks, a line such as road,128,64,128 for each class; by default label_colors.txt or "
        "class_dict.csv of the folder.",
        "data",
        path="file",
    )
    crop_size: tuple[int, ...] = option((513, 513), "Height and width of the training crops.", "augmentation")
    scale_range: tuple[float, ...] = option((0.5, 2.0), "Range of the random scale of training images.", "augmentation")
    base_size: int = option(
        0, "Shorter side that the scale refers to; 0 for the image's own.", "augmentation", minimum=0
    )
    pca_noise: float = option(0.0, "Standard deviation of AlexNet's PCA color noise.", "augmentation", minimum=0)
    head: str = option("deeplabv3", "fcn, deeplabv3 or deeplabv3_plus.", "network", choices=HEADS)
    backbone: str = option("resnet50", "Network: resnet50, resnet101, plainnet34, ...", "network")
    output_stride: int = option(
        16, "Stride of the backbone's last feature map: 8, 16 or 32.", "network", choices=OUTPUT_STRIDES
    )
    multi_grid: tuple[int, ...] = option(
        (), "Factors of the dilations of the blocks of conv5_x, such as 1,2,4.", "network"
    )
    dropout: float | None = option(
        None, "Dropout of the head; by default 0.5 for deeplabv3, otherwise 0.1.", "network", minimum=0, below=1
    )
    auxiliary: bool = option(False, "Train a second head on conv4_x too.", "network")
    auxiliary_weight: float = option(0.4, "Weight of its loss.", "network", minimum=0)
    batch_size: int = option(16, "Images in a training step.", "optimization", minimum=1)
    steps: int = option(30_000, "Training steps.", "optimization", minimum=1)
    schedule: str = option(
        "poly",
        "Learning rate schedule: poly (power 0.9), cosine or piecewise (divided by 10 at decay_steps).",
        "optimization",
        choices=("poly", "cosine", "piecewise"),
    )
    learning_rate: float = option(0.01, "Initial learning rate.", "optimization", minimum=0)
    decay_steps: tuple[int, ...] = option(
        (), "Steps at which a piecewise learning rate is divided by 10.", "optimization"
    )
    class_weights: str = option(
        "none",
        "Weights of the classes in the loss: none, or median_frequency of the training masks.",
        "optimization",
        choices=CLASS_WEIGHTS,
    )
    hard_fraction: float = option(
        1.0,
        "Fraction of the pixels with the largest loss to train on; 1 for all.",
        "optimization",
        minimum=0,
        maximum=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("backbone", self.backbone, BACKBONES)
        if len(self.crop_size) != 2 or min(self.crop_size) < 1:
            raise InputError(f"crop_size must be two positive numbers, height and width; got {list(self.crop_size)}.")
        self.check_scales(self.scale_range)
        if not self.hard_fraction:
            raise InputError("hard_fraction must be above 0; got 0.")


_DEEPLAB = SegmenterConfig(
    output_stride=8,
    multi_grid=(1, 2, 4),
    auxiliary=True,
    synchronized_norm=True,
)

_CAMVID = SegmenterConfig(
    dataset="folder:CamVid",
    ignore_labels=(11,),
    crop_size=(240, 320),
    scale_range=(0.75, 1.75),
    output_stride=16,
    multi_grid=(1, 2, 4),
    dropout=0.1,
    freeze_norm=True,
    learning_rate=0.02,
    backbone_lr_mult=0.1,
    batch_size=4,
    steps=4_000,
    precision="mixed_bfloat16",
    eval_steps=400,
    checkpoint_steps=100,
)
"""For a CPU: small crops and batches, frozen statistics, and a head that learns ten times as fast as the backbone."""

PRESETS = {
    # Model Garden's DeepLabv3 on VOC: 45 epochs of the 10,582 images at 0.007 and a batch of 16.
    "voc_deeplabv3_resnet50": dataclasses.replace(
        _DEEPLAB,
        dataset="voc:VOCdevkit/VOC2012",
        train_split="trainaug",
        output_stride=16,
        learning_rate=0.007,
        steps=29_762,
        eval_steps=2_000,
    ),
    # detectron2's DeepLab on Cityscapes: 90,000 steps at 0.01 and a batch of 16 crops of 512x1024.
    "cityscapes_deeplabv3_resnet50": dataclasses.replace(
        _DEEPLAB,
        dataset="cityscapes:cityscapes",
        crop_size=(512, 1024),
        output_stride=16,
        dropout=0.1,
        learning_rate=0.01,
        steps=90_000,
        eval_steps=5_000,
    ),
    "camvid_deeplabv3_resnet50": _CAMVID,
    "camvid_deeplabv3_plus_resnet50": dataclasses.replace(_CAMVID, head="deeplabv3_plus"),
}
"""Name -> configuration, `dataset_head_backbone`."""
