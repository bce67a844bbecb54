"""Localization data sets by name: VOC-like folders with a main class, drawn images, and errors."""

import json
import logging

import numpy as np
import pytest

from keras_resnet.errors import InputError
from keras_resnet.localization.data import sources
from tests.conftest import DATA
from tests.detection.data.folders import coco_folder, voc_folder
from tests.localization import sets


def objects(*pairs):
    return [(name, box, 0) for name, box in pairs]


def test_the_main_class_is_that_of_the_largest_box(tmp_path, caplog):
    content = {
        "one": objects(("dog", (11, 21, 30, 40))),
        "two": objects(("dog", (1, 1, 20, 20)), ("cat", (1, 1, 40, 40)), ("cat", (50, 50, 60, 60))),
        "small_sum": objects(("dog", (1, 1, 30, 30)), ("dog", (31, 31, 60, 60)), ("cat", (1, 1, 31, 31))),
        "beyond": objects(("cat", (71, 1, 400, 20)), ("dog", (1, 1, 20, 20))),  # 10x20 of it is inside
        "equal": objects(("dog", (1, 1, 20, 20)), ("cat", (21, 21, 40, 40))),
        "none": [],
    }
    dataset = sources.load(f"folder:{voc_folder(tmp_path, content)}")
    with caplog.at_level(logging.WARNING):
        examples = {example.id: example for example in dataset.examples("train")}
    assert dataset.info.class_names == ("cat", "dog")
    assert [example.label for example in examples.values()] == [1, 0, 0, 1, 1]
    np.testing.assert_array_equal(examples["one"].boxes, [[20, 10, 40, 30]])
    np.testing.assert_array_equal(examples["two"].boxes, [[0, 0, 40, 40], [49, 49, 60, 60]])
    assert examples["one"].size == (60, 80)
    assert "split train: left out 1 image without a box" in caplog.text


def test_crowds_are_no_objects(tmp_path):
    root = coco_folder(
        tmp_path,
        [
            {"image_id": 42, "category_id": 7, "bbox": [0, 0, 70, 50], "iscrowd": 1},
            {"image_id": 42, "category_id": 3, "bbox": [5, 6, 10, 20], "iscrowd": 0},
        ],
    )
    (example,) = sources.load(f"folder:{root}").examples("train")
    np.testing.assert_array_equal(example.boxes, [[6, 5, 26, 15]])
    annotations = root / "annotations/instances_train.json"
    content = json.loads(annotations.read_text())
    content["annotations"].pop()
    annotations.write_text(json.dumps(content))
    with pytest.raises(InputError, match="split 'train' must have images to use; all 1 are without a box"):
        sources.load(f"folder:{root}").examples("train")


@pytest.mark.skipif(not (DATA / "animals").is_dir(), reason=f"no animals in {DATA}")
def test_animals():
    dataset = sources.load(f"folder:{DATA / 'animals'}")
    assert dataset.info.class_names == ("kangaroo", "raccoon")
    assert {split: len(dataset.examples(split)) for split in dataset.info.splits} == {
        "test": 91,
        "train": 218,
        "val": 55,
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder:", "must name an existing folder after 'folder:'"),
        ("folder:/no/such", "must name an existing folder after 'folder:'"),
        ("folder:{root}", "must have VOC's XML files"),
        ("synthetic:96x96", "must be named synthetic:HEIGHTxWIDTHxCLASSES, at least 16x16; got 'synthetic:96x96'"),
        ("synthetic:8x96x5", "at least 16x16"),
        ("synthetic:96x96x0", "at least 16x16"),
        ("no_such_data_set", "must be 'folder:PATH', 'synthetic:HxWxCLASSES' or a set of tensorflow-datasets"),
    ],
)
def test_wrong_names(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        sources.load(name.format(root=tmp_path))


def test_folders_of_images_have_no_boxes(tmp_path):
    sets.save(tmp_path / "train/cat/1.jpg")
    with pytest.raises(InputError, match=r"must have boxes: .* it has folders of images only"):
        sources.load(f"folder:{tmp_path}")
