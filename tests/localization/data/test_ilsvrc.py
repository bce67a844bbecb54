"""ImageNet's CLS-LOC data: boxes in XML and CSV, the blacklist, and wrong files by name."""

import logging
import shutil

import numpy as np
import pytest

from keras_resnet.errors import InputError
from keras_resnet.localization.data import sources
from tests.localization import sets
from tests.localization.sets import GOLDFISH, TENCH


def load(root, **options):
    return sources.load(f"folder:{root}", **options)


def content(examples):
    return [(example.id, example.label, example.boxes.tolist(), example.blacklisted) for example in examples]


TRAIN = [
    (f"{TENCH}_7", 0, [[5, 10, 15, 30]], False),  # the last pixels, 14 and 29, belong to the box
    (f"{GOLDFISH}_2", 1, [[0, 0, 40, 60], [2, 1, 5, 4]], False),
]
VAL = [
    ("ILSVRC2012_val_00000001", 1, [[0, 0, 10, 10]], False),
    ("ILSVRC2012_val_00000002", 0, [[5, 5, 25, 25]], True),
    ("ILSVRC2012_val_00000003", 0, [[10, 0, 40, 60]], False),
]


@pytest.mark.parametrize("folders_of_val", [False, True])
@pytest.mark.parametrize("kaggle", [False, True])
def test_all_editions_have_the_same_boxes(tmp_path, kaggle, folders_of_val):
    dataset = load(sets.ilsvrc(tmp_path, kaggle, folders_of_val=folders_of_val))
    assert dataset.info.class_names == (TENCH, GOLDFISH)
    assert dataset.info.splits == {"train": 2, "val": 3}
    assert content(dataset.examples("train")) == TRAIN
    assert content(dataset.examples("validation")) == VAL
    first = dataset.examples("val[:1]")[0]
    assert first.size == (None if kaggle else (40, 60))
    assert first.image_size() == (40, 60)


def test_the_folder_ilsvrc_itself(tmp_path):
    sets.ilsvrc(tmp_path, kaggle=True)
    assert content(load(tmp_path / "ILSVRC").examples("val")) == VAL


@pytest.mark.parametrize("place", ["ILSVRC/devkit/data", "ILSVRC2015_devkit/data", "", "data"])
def test_the_blacklist_is_found(tmp_path, place):
    sets.ilsvrc(tmp_path, blacklist=None)
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "ILSVRC2014_clsloc_validation_blacklist.txt").write_text("1\r\n3\r\n")
    examples = load(tmp_path).examples("val")
    assert [example.blacklisted for example in examples] == [True, False, True]
    assert not any(example.blacklisted for example in load(tmp_path).examples("train"))


def test_a_missing_blacklist_is_reported(tmp_path, caplog):
    sets.ilsvrc(tmp_path, blacklist=None)
    with caplog.at_level(logging.WARNING):
        assert not any(example.blacklisted for example in load(tmp_path).examples("val"))
    assert "found no *_clsloc_validation_blacklist.txt" in caplog.text


def test_a_part_of_the_classes(tmp_path, caplog):
    dataset = load(sets.ilsvrc(tmp_path), class_names=(GOLDFISH,))
    with caplog.at_level(logging.WARNING):
        examples = dataset.examples("val")
    assert content(examples) == [("ILSVRC2012_val_00000001", 0, [[0, 0, 10, 10]], False)]
    assert "left out 2 images of other classes than the 1, or without a box" in caplog.text


def test_validation_images_alone_have_the_classes_of_imagenet(tmp_path):
    sets.ilsvrc(tmp_path)
    shutil.rmtree(tmp_path / "ILSVRC/Data/CLS-LOC/train")
    dataset = load(tmp_path)
    assert (len(dataset.info.class_names), dataset.info.splits) == (1000, {"val": 3})
    assert [example.label for example in dataset.examples("val")] == [1, 0, 0]
    (tmp_path / "LOC_synset_mapping.txt").write_text(f"{GOLDFISH} goldfish\n{TENCH} tench, Tinca tinca\n")
    assert load(tmp_path).info.class_names == (GOLDFISH, TENCH)


def write(name, text):
    def change(root):
        (root / name).write_text(text)

    return change


def remove(name):
    def change(root):
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


VAL_XML = "ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml"
BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"


@pytest.mark.parametrize(
    ("kaggle", "change", "message"),
    [
        (False, remove("ILSVRC/Annotations"), "must have Annotations/CLS-LOC/SPLIT/\\*.xml or LOC_train_solution.csv"),
        (False, write(VAL_XML, "nonsense"), "val_00000001.xml' is not XML"),
        (
            False,
            remove("ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000002.JPEG"),
            "val_00000002' has boxes, but .* no such",
        ),
        (
            False,
            write(VAL_XML, f"<a><object><name>x</name>{BOX}</object><object><name>y</name>{BOX}</object></a>"),
            "'ILSVRC2012_val_00000001' must have boxes of one class; it has x, y",
        ),
        (
            False,
            write("ILSVRC/devkit/data/ILSVRC2015_clsloc_validation_blacklist.txt", "12\nx\n"),
            "must have the number of an image in each line; got 'x'",
        ),
        (True, write("LOC_val_solution.csv", "a,b\n1,2\n"), "must have the columns ImageId and PredictionString"),
        (
            True,
            write("LOC_val_solution.csv", f"ImageId,PredictionString\nILSVRC2012_val_00000001,{TENCH} 1 2 3\n"),
            "must have 'WNID xmin ymin xmax ymax' for each object; got 'n01440764 1 2 3'",
        ),
        (
            True,
            write("LOC_val_solution.csv", f"ImageId,PredictionString\nILSVRC2012_val_00000001,{TENCH} 1 2 3 x\n"),
            "must have 'WNID xmin ymin xmax ymax'",
        ),
        (
            True,
            write("LOC_val_solution.csv", "ImageId,PredictionString\nILSVRC2012_val_00000001,\n"),
            "split 'val' must have images to use; all 1 are of other classes than the 2, or without a box",
        ),
    ],
)
def test_wrong_files(tmp_path, kaggle, change, message):
    sets.ilsvrc(tmp_path, kaggle)
    change(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        load(tmp_path).examples("val")
    assert str(error.value).count(".\n") == 0
    assert str(error.value).endswith(".")


def test_boxes_without_an_area_are_dropped(tmp_path):
    sets.ilsvrc(tmp_path)
    sets.xml(tmp_path / VAL_XML, GOLDFISH, [(9, 9, 3, 3), (4, 4, 4, 4)])
    np.testing.assert_array_equal(load(tmp_path).examples("val")[0].boxes, [[4, 4, 5, 5]])
