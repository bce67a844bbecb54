"""Configurations of localizers: presets and what is refused."""

import dataclasses

import pytest

from keras_resnet.errors import InputError
from keras_resnet.localization.config import PRESETS, LocalizerConfig


def test_the_preset_of_the_paper():
    config = PRESETS["imagenet_loc_resnet101"]
    assert (config.backbone, config.batch_size, config.batch_size_per_image) == ("resnet101", 256, 8)
    assert (config.crop_size, config.proposals, config.stage) == (224, 200, 1)
    second = PRESETS["imagenet_loc_resnet101_rcnn"]
    assert (second.stage, second.batch_size, second.proposals) == (2, 256, 200)


def test_every_preset_of_stage_two_follows_one_of_stage_one():
    for name, config in PRESETS.items():
        first = PRESETS[name.removesuffix("_rcnn")]
        assert config.stage == 1 + name.endswith("_rcnn")
        for field in ("dataset", "backbone", "crop_size", "proposals", "mean", "stride_in_1x1"):
            assert getattr(config, field) == getattr(first, field)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": 3}, "stage must be one of 1, 2; got 3"),
        ({"backbone": "resnet20"}, "backbone must be one of"),
        ({"scale_range": (300, 200)}, "scale_range must be two positive numbers"),
        ({"anchor_scales": ()}, "anchor_scales must be one or more positive numbers"),
        ({"negative_iou": 0.8}, "negative_iou must be at most positive_iou, 0.7; got 0.8"),
        ({"resize": 200}, "resize must be 0 or at least crop_size, 224; got 200"),
        ({"protocol": "ten_crop"}, "protocol must be one of"),
        ({"class_names": ("cat", "dog", "cat")}, "class_names must be different names; got cat, dog, cat"),
        ({"mean": (1.0,)}, "mean and std must be given together"),
        ({"batch_size_per_image": 1}, "batch_size_per_image must be at least 2"),
    ],
    ids=str,
)
def test_mistakes(options, message):
    with pytest.raises(InputError, match=message):
        LocalizerConfig(**options)


def test_stage_two_requires_a_run_of_stage_one(tmp_path):
    config = dataclasses.replace(PRESETS["synthetic_loc_resnet18_rcnn"])
    with pytest.raises(InputError, match="stage_one must be given for stage 2"):
        config.check_names()
    with pytest.raises(InputError, match="stage_one"):
        dataclasses.replace(config, stage_one=str(tmp_path / "none")).check_names()
