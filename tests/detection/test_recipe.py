"""Settings that are chosen from a data set: each follows from its images and boxes, and none that is given changes."""

import dataclasses

import numpy as np
import pytest

from keras_resnet.detection import recipe
from keras_resnet.detection.config import DetectorConfig
from keras_resnet.detection.data.annotations import Annotation
from keras_resnet.distribute import precision
from tests.detection.data.folders import DOG, voc_folder


def annotation(side, size=(200, 300), boxes=1):
    """An image with square boxes of one size."""
    corners = np.tile([10.0, 10.0, 10.0 + side, 10.0 + side], (boxes, 1))
    no_flags = np.zeros(boxes, bool)
    areas = np.full(boxes, side**2)
    return Annotation("", "", size, corners, np.zeros(boxes, "int32"), no_flags, no_flags, areas)


def chosen(annotations, config=None, device="CPU"):
    return {
        name: value
        for choice in recipe.choose(annotations, config or DetectorConfig(), device)
        for name, value in choice.values.items()
    }


def test_small_boxes_make_large_images():
    # A box of 16 pixels in an image of 200 has 32 at 400.
    assert chosen([annotation(16)] * 10)["min_size"] == 400
    assert chosen([annotation(16)] * 10)["max_size"] == 608
    assert chosen([annotation(150)] * 10)["min_size"] == recipe.SIDES["CPU"][0]
    assert chosen([annotation(2)] * 10)["min_size"] == recipe.SIDES["CPU"][1]
    assert chosen([annotation(2)] * 10, device="GPU")["min_size"] == recipe.SIDES["GPU"][1]


def test_anchors_cover_the_boxes():
    annotations = [annotation(side) for side in np.geomspace(16, 128, 50)]
    values = chosen(annotations, DetectorConfig(min_size=400, max_size=600))
    scales = np.array(values["anchor_scales"])
    assert scales[0] == pytest.approx(2 * 16, rel=0.1)
    assert scales[-1] == pytest.approx(2 * 128, rel=0.1)
    assert np.all(scales[1:] / scales[:-1] < 2.1)
    assert values["anchor_ratios"] == (1.0,)
    assert values["min_proposal_size"] <= 16


def test_steps_and_rate_follow_the_images_and_the_batch():
    values = chosen([annotation(50)] * 1000)
    assert values["batch_size"] == recipe.BATCH_SIZE
    assert values["steps"] == 1000 * recipe.PASSES["CPU"] // recipe.BATCH_SIZE
    values = chosen([annotation(50)] * 1000, DetectorConfig(batch_size=2))
    assert values["steps"] == 1000 * recipe.PASSES["CPU"] // 2
    assert values["learning_rate"] == pytest.approx(2 * recipe.RATE_PER_IMAGE)
    few = chosen([annotation(50)] * 3)
    assert (few["batch_size"], few["steps"] * 3) == (3, recipe.IMAGES[0])
    assert int(few["max_broken"] * 3) == 1, "one of three images may be damaged"


def test_every_choice_is_a_valid_configuration():
    for device in recipe.SIDES:
        for side, boxes in ((3, 40), (199, 1)):
            values = chosen([annotation(side, boxes=boxes)] * 5, device=device)
            dataclasses.replace(DetectorConfig(), **values)


def test_given_fields_are_kept_and_the_rest_is_explained(tmp_path):
    root = voc_folder(tmp_path, {str(n): [DOG] for n in range(12)})
    given = {"steps": 7, "min_size": 96, "dataset": f"folder:{root}"}
    config, lines = recipe.recipe(DetectorConfig().override(given), given)
    assert (config.steps, config.min_size) == (7, 96)
    assert config.warmup_steps < 7
    assert (config.train_split, config.eval_split) == ("train[:85%]", "train[85%:]")
    text = "\n".join(lines)
    assert "10 training images with 10 boxes of 1 class" in text
    assert "precision " in text
    assert not any(line.strip().startswith("steps") for line in lines)
    assert f"  max_size {config.max_size}: " in text
    assert 96 <= config.max_size <= 192
    assert "min_size" not in text


def test_a_split_of_test_images_is_not_used(tmp_path):
    names = [str(n) for n in range(4)]
    splits = {"train": names[:2], "validation": names[2:3], "test": names[3:]}
    root = voc_folder(tmp_path, {name: [DOG] for name in names}, splits=splits)
    config, _ = recipe.recipe(DetectorConfig(dataset=f"folder:{root}"), {"dataset"})
    assert (config.train_split, config.eval_split) == ("train", "validation")


def test_other_data_sets_have_no_recipe():
    assert recipe.recipe(DetectorConfig(), ()) == (DetectorConfig(), [])


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        ("flags\t\t: fpu sse avx512_bf16 amx_tile\n", "mixed_bfloat16"),
        ("Features\t: fp asimd bf16\n", "mixed_bfloat16"),
        ("flags\t\t: fpu sse avx512f\n", "float32"),
        ("", "float32"),
    ],
)
def test_precision_of_processors(tmp_path, flags, policy):
    if precision.has_gpu():
        pytest.skip("the GPU decides on this machine")
    file = tmp_path / "cpuinfo"
    file.write_text(f"model name\t: bf16 (the name is not a flag)\n{flags}")
    assert precision.fastest(file)[0] == policy
    assert precision.fastest(tmp_path / "absent")[0] == "float32"
