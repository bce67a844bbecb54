"""Configurations of detectors: presets and errors."""

import dataclasses
import json

import pytest

from keras_resnet.detection.config import PRESETS, DetectorConfig, FasterRCNNConfig
from keras_resnet.errors import InputError
from tests.detection.runs import config


def test_presets_go_through_json_and_have_the_papers_numbers():
    for preset in PRESETS.values():
        assert DetectorConfig.from_dict(json.loads(preset.to_json())) == preset
    coco = PRESETS["coco_resnet101"]
    assert (coco.learning_rate, coco.steps, coco.decay_steps, coco.batch_size) == (1e-3, 320_000, (240_000,), 8)
    assert len(coco.anchor_scales) * len(coco.anchor_ratios) == 12
    voc = PRESETS["voc07_resnet101"]
    assert (voc.min_size, voc.max_size, voc.bg_iou_low, voc.roi_pooling) == (600, 1000, 0.1, "max")


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1; got 0"),
        ({"max_size": 10}, "max_size must be at least min_size, 64; got 10"),
        ({"post_nms_topk_train": 0}, "post_nms_topk_train must be at least 1; got 0"),
        ({"roi_pooling": "mean"}, "roi_pooling must be one of 'max', 'align'"),
        ({"training": "both"}, "training must be one of 'joint', 'alternating'"),
        ({"decay_steps": (5, 2)}, "decay_steps must increase"),
        ({"anchor_scales": ()}, r"anchor_scales must be one or more positive numbers; got \[\]"),
        ({"anchor_scales": (-3.0,)}, r"anchor_scales must be one or more positive numbers; got \[-3.0\]"),
        ({"anchor_ratios": (1.0, 0.0)}, "anchor_ratios must be one or more positive numbers"),
        ({"mean": (), "std": (1.0, 1.0, 1.0)}, "mean and std must be given together, three numbers each"),
        ({"mean": (1.0,) * 3, "std": (0.0, 1.0, 1.0)}, "with a positive std"),
        ({"learning_rate": -1.0}, "learning_rate must be 0 or more; got -1.0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        config("x", **options)


def test_the_network_of_a_run_has_the_options_of_the_run():
    run = PRESETS["bccd_resnet50"]
    network = run.network()
    assert type(network) is FasterRCNNConfig
    for field in dataclasses.fields(network):
        assert getattr(network, field.name) == getattr(run, field.name)


def test_an_unknown_option_is_refused_with_the_nearest_name():
    with pytest.raises(
        InputError, match=r"must be fields of FasterRCNNConfig; got 'roi_poling' \(did you mean 'roi_po"
    ):
        FasterRCNNConfig().replace(roi_poling="max")
    assert FasterRCNNConfig().replace(anchor_scales=[8.0]).anchor_scales == (8.0,)
