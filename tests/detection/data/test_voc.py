"""Folders in VOC's layout: coordinates, dropped boxes, and errors that name the file."""

import logging

import numpy as np
import pytest
from PIL import Image

from keras_resnet.detection.data import sources
from keras_resnet.errors import InputError
from tests.detection.data.folders import DOG, voc_folder


def test_voc_folder(tmp_path):
    content = {"a": [DOG, ("cat", (1, 1, 80, 60), 1)], "b": [], "c": [("dog", (2.5, 3.5, 9.0, 8.0), 0)]}
    root = voc_folder(tmp_path / "voc", content, splits={"train": ["a", "b"], "val": ["c"]})
    dataset = sources.load(f"folder:{root}")
    assert dataset.info.class_names == ("cat", "dog")
    assert dataset.info.splits == {"train": 2, "val": 1}
    first, second = dataset.annotations("train")
    # VOC counts pixels from 1 and includes the last.
    np.testing.assert_allclose(first.boxes, [[20, 10, 40, 30], [0, 0, 60, 80]])
    assert first.labels.tolist() == [1, 0]
    assert first.difficult.tolist() == [False, True]
    assert (first.size, first.id, len(second.labels)) == ((60, 80), "a", 0)
    assert len(dataset.annotations("train+val")) == 3
    assert [annotation.id for annotation in dataset.annotations("train[1:]")] == ["b"]


def test_masks(tmp_path):
    """The palette indices of SegmentationObject number the objects; 255 is void, and not all images have a file."""
    root = voc_folder(tmp_path / "voc", {"a": [DOG, ("cat", (1, 1, 20, 20), 0), DOG], "b": [DOG]})
    numbers = np.zeros((60, 80), "uint8")
    numbers[20:40, 10:30], numbers[20:40, 9] = 1, 255
    numbers[:20, :20] = 2
    (root / "SegmentationObject").mkdir()
    image = Image.fromarray(numbers)
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype("uint8").tobytes())
    image.save(root / "SegmentationObject/a.png")
    (root / "ImageSets/Segmentation").mkdir()
    (root / "ImageSets/Segmentation/train.txt").write_text("a\n")
    dataset = sources.load(f"folder:{root}")
    assert dataset.info.splits == {"train": 2, "segmentation_train": 1}
    (annotation,) = dataset.annotations("segmentation_train")
    first, second, third = annotation.masks
    np.testing.assert_array_equal(first.draw(), numbers == 1)
    np.testing.assert_array_equal(second.draw(), numbers == 2)
    assert third is None
    assert dataset.annotations("train")[1].masks == (None,)
    Image.fromarray(numbers[:30]).save(root / "SegmentationObject/a.png")
    with pytest.raises(InputError, match=r"has 60x80 pixels \(height x width\), but a mask of .* has 30x80"):
        sources.load(f"folder:{root}").annotations("train")
    Image.new("LA", (80, 60)).save(root / "SegmentationObject/a.png")
    with pytest.raises(InputError, match="must have a number in each pixel; its mode is LA"):
        sources.load(f"folder:{root}").annotations("train")


def test_bad_boxes_are_dropped_and_counted(tmp_path, caplog):
    bad = [DOG, ("dog", (20, 20, 20, 40), 0), ("dog", (100, 100, 120, 120), 0), ("dog", (70, 50, 200, 200), 0)]
    root = voc_folder(tmp_path / "voc", {"a": bad})
    with caplog.at_level(logging.WARNING):
        (annotation,) = sources.load(f"folder:{root}").annotations("train")
    assert annotation.boxes[1].tolist() == [49, 69, 200, 200]
    assert annotation.clipped_boxes()[1].tolist() == [49, 69, 60, 80]
    assert len(annotation.labels) == 2
    assert "dropped 2 boxes" in caplog.text


def not_xml(root):
    (root / "Annotations/a.xml").write_text("hello")


def no_annotation(root):
    (root / "Annotations/a.xml").unlink()


def no_image(root):
    (root / "JPEGImages/a.jpg").unlink()


def not_an_image(root):
    (root / "JPEGImages/a.jpg").write_text("hello")


def not_a_number(root):
    path = root / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<xmin>11</xmin>", "<xmin>left</xmin>"))


def no_side(root):
    path = root / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<xmin>11</xmin>", ""))


def no_boxes(root):
    (root / "Annotations/a.xml").write_text("<annotation/>")


def no_lists(root):
    (root / "ImageSets/Main/train.txt").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (not_xml, r"a\.xml' is not XML"),
        (no_annotation, r"names 'a', but there is no file .*a\.xml"),
        (no_image, r"names 'a', but .*JPEGImages' has no such image"),
        (not_an_image, r"a\.jpg' is no image"),
        (not_a_number, r"a\.xml' has an object without four numbers"),
        (no_side, r"a\.xml' has an object without four numbers"),
        (no_boxes, r"split train must have at least one box; its only image has none"),
        (no_lists, r"must hold lists of image names, one \*\.txt for each split; it has none"),
    ],
)
def test_errors_name_the_file(tmp_path, damage, message):
    root = voc_folder(tmp_path / "voc", {"a": [DOG]})
    damage(root)
    with pytest.raises(InputError, match=message):
        sources.load(f"folder:{root}", class_names=("dog",)).annotations("train")


def test_an_unknown_class_is_named_with_its_file(tmp_path):
    root = voc_folder(tmp_path / "voc", {"a": [DOG]})
    with pytest.raises(InputError, match=r"a\.xml' has class 'dog'; allowed are cat, cow"):
        sources.load(f"folder:{root}", class_names=("cat", "cow")).annotations("train")


def test_blood_cells(real_data):
    dataset = sources.load(f"folder:{real_data / 'bccd'}")
    assert dataset.info.class_names == ("Platelets", "RBC", "WBC")
    assert dataset.info.splits == {"train": 205, "val": 87, "trainval": 292, "test": 72}
    labels = np.concatenate([annotation.labels for annotation in dataset.annotations("test")])
    assert np.bincount(labels).tolist() == [69, 805, 71]
