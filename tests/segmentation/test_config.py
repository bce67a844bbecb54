"""Configurations of segmenters: presets and errors."""

import dataclasses
import json

import keras
import pytest

from keras_resnet.cli import main as cli
from keras_resnet.errors import InputError
from keras_resnet.segmentation.choices import BACKBONES
from keras_resnet.segmentation.config import PRESETS, SegmenterConfig
from keras_resnet.segmentation.data.examples import SegmentationInfo
from keras_resnet.segmentation.run import SegmenterRun
from tests.segmentation.runs import config

LAST_BLOCKS = {name: net.stages[-1].blocks for name, net in BACKBONES.items()}


def test_presets_have_the_numbers_of_their_sources():
    for preset in PRESETS.values():
        assert SegmenterConfig.from_dict(json.loads(preset.to_json())) == preset
    voc = PRESETS["voc_deeplabv3_resnet50"]
    assert (voc.learning_rate, voc.batch_size, voc.schedule) == (0.007, 16, "poly")
    assert voc.steps == -(-45 * 10_582 // 16)
    cityscapes = PRESETS["cityscapes_deeplabv3_resnet50"]
    assert (cityscapes.learning_rate, cityscapes.batch_size, cityscapes.steps) == (0.01, 16, 90_000)
    assert cityscapes.crop_size == (512, 1024)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.usefixtures("small_networks")
def test_presets_can_be_built(name, tmp_path):
    names = tuple(map(str, range(5)))
    info = SegmentationInfo("set", names, None, {}, colors=("#000000",) * 5)
    assert len(PRESETS[name].multi_grid) == LAST_BLOCKS[PRESETS[name].backbone]
    preset = dataclasses.replace(PRESETS[name], multi_grid=())  # the last stage has one block here
    model = SegmenterRun(tmp_path, preset, info).build()
    outputs = model.output if isinstance(model.output, dict) else {"logits": model.output}
    assert {key: value.shape[-1] for key, value in outputs.items()} == dict.fromkeys(outputs, 5)
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.synchronized for layer in layers} == {PRESETS[name].synchronized_norm}


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1; got 0"),
        ({"crop_size": (3,)}, r"crop_size must be two positive numbers, height and width; got \[3\]"),
        ({"crop_size": (3, 0)}, "crop_size must be two positive numbers"),
        ({"scale_range": (2.0, 0.5)}, r"scale_range must be two positive numbers, .*; got \[2.0, 0.5\]"),
        ({"head": "deeplab"}, "head must be one of 'fcn', 'deeplabv3'"),
        ({"backbone": "resnet20"}, "backbone must be one of"),
        ({"output_stride": 12}, "output_stride must be one of 8, 16, 32; got 12"),
        ({"schedule": "plateau"}, "schedule must be one of 'poly', 'cosine', 'piecewise'"),
        ({"warmup_steps": 4}, "warmup_steps must be below steps, 4; got 4"),
        ({"class_weights": "median"}, r"class_weights must be one of 'none', 'median_frequency'; got 'median'"),
        ({"hard_fraction": 0.0}, "hard_fraction must be above 0"),
        ({"std": ()}, "mean and std must be given together"),
        ({"ignore_labels": 11}, "ignore_labels must be a list of integers; got 11"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        config("x", **options)


def test_help_lists_flags_and_presets(capsys):
    assert cli.main(["train", "--task=segmentation", "--help"]) == 0
    text = capsys.readouterr().out
    for part in ("--crop_size: Height and width", "--ignore_labels:", "camvid_deeplabv3_resnet50"):
        assert part in text
