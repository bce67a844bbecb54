"""Layouts that detection data comes in, each with boxes worked out by hand, and the splits that are made of them."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from keras_resnet.detection.data import simple_yaml, sources
from keras_resnet.detection.data.annotations import DetectionDataset
from keras_resnet.errors import InputError

XML = (
    "<annotation><object><name>{name}</name><bndbox><xmin>11</xmin><ymin>21</ymin><xmax>30</xmax><ymax>40</ymax>"
    "</bndbox></object></annotation>"
)
"""A box of columns 11 to 30 and rows 21 to 40, counted from 1."""

BOX = [20.0, 10.0, 40.0, 30.0]
"""The same box as top, left, bottom, right."""


SPLITS = ("train", "val", "test")


def image(path: pathlib.Path, size=(60, 80)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size, 3), "uint8")).save(path)


def text(path: pathlib.Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def load(root, **options) -> DetectionDataset:
    return sources.load(f"folder:{root}", **options)


def voc_pairs(root, images="images", annotations="annotations", count=3) -> None:
    for number in range(count):
        image(root / images / f"{number}.jpg")
        text(root / annotations / f"{number}.xml", XML.format(name="cat" if number % 2 else "dog"))


def roboflow(root, split="train", names=("pieces", "king", "queen"), used=2, file="_annotations.coco.json") -> None:
    image(root / split / "a.jpg")
    content = {
        "images": [{"id": 0, "file_name": "a.jpg", "height": 60, "width": 80}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": used, "bbox": [10, 20, 20, 20]}],
        "categories": [
            {"id": number, "name": name, "supercategory": names[0] if number else "none"}
            for number, name in enumerate(names)
        ],
    }
    text(root / split / file, json.dumps(content))


def yolo(root, yaml="names: [king, queen]\n", label="1 0.25 0.5 0.25 0.333333\n", split="train") -> None:
    image(root / split / "images/a.jpg")
    text(root / split / "labels/a.txt", label)
    if yaml:
        text(root / "data.yaml", yaml)


# VOC without image lists


@pytest.mark.parametrize(
    ("images", "annotations"),
    [
        ("images", "annotations"),
        ("JPEGImages", "Annotations"),
        ("img", "xml/boxes"),
        (".", "."),
        ("train", "train"),
        ("images/train", "annotations/train"),
    ],
)
def test_voc_in_any_folders(tmp_path, images, annotations):
    voc_pairs(tmp_path, images, annotations)
    dataset = load(tmp_path)
    assert dataset.info.class_names == ("cat", "dog")
    assert dataset.info.splits == {"train": 1, "val": 1, "test": 1}
    assert "made at random with seed 0" in dataset.notes[-1]
    found = {a.id: a for split in dataset.info.splits for a in dataset.annotations(split)}
    assert sorted(found) == ["0", "1", "2"]
    assert [found[id].labels.tolist() for id in "012"] == [[1], [0], [1]]
    assert all(annotation.boxes.tolist() == [BOX] for annotation in found.values())


def test_voc_in_folders_of_splits_with_the_same_names(tmp_path):
    for split in ("train", "Valid"):
        voc_pairs(tmp_path, f"{split}/img", f"{split}/xml", 2)
    dataset = load(tmp_path)
    assert dataset.info.splits == {"train": 2, "val": 2}
    assert not dataset.notes
    assert [pathlib.Path(a.path).parts[-3] for a in dataset.annotations("valid")] == ["Valid", "Valid"]


def test_voc_files_without_partners_are_named(tmp_path, caplog):
    voc_pairs(tmp_path)
    image(tmp_path / "images/alone.jpg")
    text(tmp_path / "annotations/lost.xml", XML.format(name="dog"))
    notes = " ".join(load(tmp_path).notes)
    assert "1 XML file without an image of the same name: lost.xml" in notes
    assert "1 image without an XML file: alone.jpg" in notes
    assert "alone.jpg" in caplog.text


def test_voc_files_of_several_images_are_refused(tmp_path):
    voc_pairs(tmp_path, count=1)
    for folder in ("a", "b"):
        image(tmp_path / folder / "0.jpg")
    with pytest.raises(InputError, match=r"0\.xml' must belong to one image; there are .*a/0\.jpg"):
        load(tmp_path)


# COCO as Roboflow and others write it


def test_roboflow_without_its_unused_class(tmp_path):
    for split in ("train", "valid", "test"):
        roboflow(tmp_path, split)
    dataset = load(tmp_path)
    assert dataset.info.class_names == ("king", "queen")
    assert dataset.categories == (1, 2)
    assert dataset.info.splits == {"test": 1, "train": 1, "valid": 1}
    assert dataset.notes == ("left out 'pieces': it has no box, and all other classes belong to it",)
    (annotation,) = dataset.annotations("val")
    assert (annotation.boxes.tolist(), annotation.labels.tolist()) == ([BOX], [1])


def test_a_class_with_boxes_stays(tmp_path):
    roboflow(tmp_path, "train", used=0)
    roboflow(tmp_path, "valid")
    assert load(tmp_path).info.class_names == ("pieces", "king", "queen")


def test_a_class_of_no_boxes_stays_if_no_other_belongs_to_it(tmp_path):
    roboflow(tmp_path, "train", used=1)
    roboflow(tmp_path, "valid", used=1)
    assert load(tmp_path).info.class_names == ("king", "queen")
    assert load(tmp_path, class_names=("pieces", "king", "queen")).info.class_names == ("pieces", "king", "queen")


@pytest.mark.parametrize("file", ["_annotations.coco.json", "annotations.json", "result.json"])
def test_one_coco_file_for_all_images(tmp_path, file):
    roboflow(tmp_path, "images", file=file)
    (tmp_path / "images" / file).rename(tmp_path / file)
    dataset = load(tmp_path)
    assert dataset.info.splits == {"all": 1}, "one image cannot be divided"
    assert dataset.annotations("all")[0].boxes.tolist() == [BOX]


def test_roboflow_segmentation(tmp_path):
    """Polygons of the instances, one of them in two parts, and a box that was never outlined."""
    roboflow(tmp_path)
    path = tmp_path / "train/_annotations.coco.json"
    content = json.loads(path.read_text())
    (entry,) = content["annotations"]
    parts = [[10, 20, 30, 20, 30, 30, 10, 30], [10, 35, 30, 35, 30, 40, 10, 40]]
    content["annotations"] = [entry | {"segmentation": parts, "area": 300}, entry | {"segmentation": []}]
    path.write_text(json.dumps(content))
    (annotation,) = load(tmp_path).annotations("train")
    expected = np.zeros((60, 80), bool)
    expected[20:30, 10:30] = expected[35:40, 10:30] = True
    mask, none = annotation.masks
    np.testing.assert_array_equal(mask.draw(), expected)
    assert none is None
    assert annotation.boxes.tolist() == [BOX, BOX]
    assert annotation.areas.tolist() == [300, 400]


@pytest.mark.parametrize("upright", [True, False])
def test_masks_of_images_with_an_orientation(tmp_path, upright):
    """Masks are as large as the image on the screen with `exif`, and as the stored one without."""
    roboflow(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored as 60x80, shown as 80x60
    Image.fromarray(np.zeros((60, 80, 3), "uint8")).save(tmp_path / "train/a.jpg", exif=exif)
    path = tmp_path / "train/_annotations.coco.json"
    content = json.loads(path.read_text())
    if upright:
        content["images"][0] |= {"height": 80, "width": 60}
    content["annotations"][0]["segmentation"] = [[10, 20, 30, 20, 30, 40, 10, 40]]
    path.write_text(json.dumps(content))
    (annotation,) = load(tmp_path, exif=upright).annotations("train")
    pixels = annotation.masks[0].draw()
    assert pixels.shape == annotation.size == ((80, 60) if upright else (60, 80))
    assert pixels[20:40, 10:30].all()
    assert pixels.sum() == 400
    with pytest.raises(InputError, match="its EXIF orientation swaps them"):
        load(tmp_path, exif=not upright).annotations("train")


# YOLO


def test_yolo_boxes_and_polygons(tmp_path):
    triangle = "0 0.125 0.5 0.375 0.5 0.375 0.75"
    yolo(tmp_path, label=f"1 0.25 0.5 0.25 0.333333\n\n{triangle}\n")
    (annotation,) = load(tmp_path).annotations("train")
    # Center (20, 30) and size 20x20 of an image of 60x80; corners (10, 30), (30, 30) and (30, 45).
    assert annotation.boxes.tolist() == [[20.0, 10.0, 40.0, 30.0], [30.0, 10.0, 45.0, 30.0]]
    assert annotation.labels.tolist() == [1, 0]
    box, polygon = annotation.masks
    assert box is None
    pixels = polygon.draw()
    assert pixels.shape == (60, 80)
    assert abs(pixels.sum() - 20 * 15 / 2) < 25
    assert not pixels[:, 31:].any()


@pytest.mark.parametrize(
    "yaml",
    [
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['king', 'queen']\n",
        "path: ../chess  # of the tool\ntrain: train/images\nval: valid/images\nnames:\n  0: king\n  1: queen\n",
        "train: /content/chess/train/images\nval: /content/chess/valid/images\nnames:\n- king\n- 'queen'\nnc: 2\n",
        "names: {0: king, 1: queen}\n",
        'names: ["king",\n  "queen"]\ntrain:\n  - train/images\nval: [valid/images]\nroboflow:\n  license: MIT\n',
    ],
)
def test_data_yaml_of_several_tools(tmp_path, yaml):
    yolo(tmp_path, yaml)
    yolo(tmp_path, "", split="valid")
    dataset = load(tmp_path)
    assert dataset.info.class_names == ("king", "queen")
    assert dataset.info.splits == {"train": 1, "val": 1}
    assert dataset.annotations("val")[0].boxes.tolist() == [BOX]


def test_yolo_with_a_list_of_classes_and_an_image_without_objects(tmp_path):
    image(tmp_path / "images/train/a.jpg")
    image(tmp_path / "images/train/b.JPG")
    text(tmp_path / "labels/train/a.txt", "1 0.25 0.5 0.25 0.333333")
    text(tmp_path / "classes.txt", "king\nqueen\n")
    image(tmp_path / "images/val/c.jpg")
    text(tmp_path / "labels/val/c.txt", "0 0.5 0.5 1 1")
    dataset = load(tmp_path)
    assert dataset.info.splits == {"train": 2, "val": 1}
    assert [len(annotation.labels) for annotation in dataset.annotations("train")] == [1, 0]


def test_label_files_without_names_and_names_without_label_files(tmp_path):
    text(tmp_path / "classes.txt", "king\nqueen\n")
    image(tmp_path / "masks/a.png")
    with pytest.raises(InputError, match="must have VOC's XML"):
        load(tmp_path)
    text(tmp_path / "masks/a.txt", "1 0.25 0.5 0.25 0.333333")
    assert load(tmp_path).annotations("all")[0].boxes.tolist() == [BOX]


@pytest.mark.parametrize(
    ("yaml", "label", "message"),
    [
        ("names: [king]", "1 0.5 0.5 0.1 0.1", "has class 1; .*data.yaml' names the classes 0 to 0"),
        ("names: [king]", "0 200 100 50 50", "line 1 of label file .*a.txt' must have fractions of the image"),
        ("names: [king]", "0 0.5 0.5 0.1", "must have a class and the center.*got 4 numbers"),
        ("names: [king]", "0 0.5 0.5 0.1 0.1\nking 0.5 0.5 0.1 0.1", "line 2 of label file .* must be numbers"),
        ("names: [king]\nnc: 2", "0 0.5 0.5 0.1 0.1", "nc is 2, but it names 1"),
        ("names:\n  1: king", "0 0.5 0.5 0.1 0.1", "must be numbered from 0; got 1"),
        ("", "0 0.5 0.5 0.1 0.1", "must name their classes: in data.yaml"),
    ],
)
def test_wrong_yolo_files_are_refused_by_name(tmp_path, yaml, label, message):
    yolo(tmp_path, yaml, label)
    with pytest.raises(InputError, match=message):
        load(tmp_path).annotations("train")


def test_yaml_with_a_bracket_that_does_not_end():
    with pytest.raises(InputError, match=r"'data.yaml' has a bracket that does not end"):
        simple_yaml.parse("names: [king,\n  queen\n", "data.yaml")


def test_yaml_values():
    content = simple_yaml.parse("---\na: 'x # y'  # comment\nb: [1, 'two, three']\nc:\nd:\n  - e\n", "data.yaml")
    assert content == {"a": "x # y", "b": ["1", "two, three"], "c": None, "d": ["e"]}


# Splits


def test_splits_are_a_function_of_the_seed(tmp_path):
    voc_pairs(tmp_path, count=20)
    parts = [[[a.id for a in load(tmp_path, seed=seed).annotations(split)] for split in SPLITS] for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]
    assert [len(part) for part in parts[0]] == [14, 3, 3]
    assert sorted(id for part in parts[0] for id in part) == sorted(map(str, range(20)))


def test_only_the_missing_split_is_made(tmp_path):
    voc_pairs(tmp_path, "train", "train", 10)
    voc_pairs(tmp_path, "test", "test", 4)
    dataset = load(tmp_path)
    assert dataset.info.splits == {"train": 8, "val": 2, "test": 4}
    assert "no split for validation" in dataset.notes[-1]


# The sets that people publish


LAYOUTS = {
    "roboflow_coco": ("train", 59, "889c420f", "white-rook", [52.0, 167.8, 87.0, 191.6]),
    "yolo": ("train", 59, "889c420f", "white-rook", [52.0, 167.8, 87.0, 191.6]),
    "voc_two_folders": ("train+val+test", 12, "raccoon_93", "raccoon", [28.0, 65.0, 190.0, 233.0]),
    "voc_beside": ("train+val+test", 9, "kangaroo_00002", "kangaroo", [103.0, 141.0, 281.0, 218.0]),
}
"""Folder -> a split, its boxes, and the first box of an image, computed by hand from the file."""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_layouts(layout, real_data):
    split, count, name, class_name, box = LAYOUTS[layout]
    dataset = load(real_data / "layouts" / layout)
    annotations = dataset.annotations(split)
    assert sum(len(annotation.labels) for annotation in annotations) == count
    (annotation,) = [each for each in annotations if pathlib.Path(each.path).name.startswith(name)]
    assert annotation.boxes[0] == pytest.approx(box, abs=1e-3)
    assert dataset.info.class_names[annotation.labels[0]] == class_name
    assert "pieces" not in dataset.info.class_names


# What other tools write


def coco(root, file, names=("a.jpg",), box=(10, 20, 20, 20), **entry) -> None:
    """Write an annotation file of images of 60x80, each with one object."""
    content = {
        "images": [{"id": number, "file_name": name, "height": 60, "width": 80} for number, name in enumerate(names)],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 1, "bbox": box, **entry} for number in range(len(names))
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    text(root / file, json.dumps(content))


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (["dataset.json"], ["all"]),
        (["via_project_coco.json"], ["all"]),
        (["train.json", "valid_coco.json"], ["train", "val"]),
        (["annotations/train2017.json", "annotations/test.json"], ["train", "test"]),
        (["train/annotations.json", "val/annotations.json"], ["train", "val"]),
    ],
)
@pytest.mark.parametrize("folder", ["images", "images/deep/er"])
def test_coco_files_of_any_name(tmp_path, files, splits, folder):
    image(tmp_path / folder / "a.jpg")
    for file in files:
        coco(tmp_path, file)
    dataset = load(tmp_path)
    assert sorted(dataset.info.splits) == sorted(splits)
    assert all(dataset.annotations(split)[0].boxes.tolist() == [BOX] for split in splits)


def test_coco_files_of_one_split_are_refused(tmp_path):
    image(tmp_path / "a.jpg")
    for file in ("first.json", "second.json"):
        coco(tmp_path, file)
    with pytest.raises(InputError, match=r"one annotation file for each split; '.*first\.json' and '.*second\.json'"):
        load(tmp_path)


def test_an_image_of_another_split_is_not_taken(tmp_path):
    image(tmp_path / "images/val/deep/a.jpg")
    coco(tmp_path, "annotations/instances_train.json")
    with pytest.raises(InputError, match="names the missing image"):
        load(tmp_path).annotations("train")


@pytest.mark.parametrize(
    ("images", "labels"), [("Images", "Labels"), ("JPEGImages", "labels"), ("img", "annotations"), ("x/y", "x/y")]
)
def test_yolo_in_any_folders(tmp_path, images, labels):
    image(tmp_path / images / "a.jpg")
    image(tmp_path / images / "background.jpg")
    text(tmp_path / labels / "a.txt", "0 0.25 0.5 0.25 0.333333")
    text(tmp_path / labels / "classes.txt", "cat\n")
    found = {annotation.id: annotation.boxes.tolist() for annotation in load(tmp_path).annotations("all")}
    assert found == {"a": [BOX], "background": []}


def test_yolo_label_of_another_image_of_the_same_name_is_not_taken(tmp_path):
    text(tmp_path / "classes.txt", "cat\n")
    for folder in ("one", "two"):
        image(tmp_path / "images" / folder / "a.jpg")
    text(tmp_path / "labels/one/a.txt", "0 0.25 0.5 0.25 0.333333")
    assert [len(annotation.labels) for annotation in load(tmp_path).annotations("all")] == [1, 0]


def test_lists_of_darknet_are_the_splits(tmp_path):
    text(tmp_path / "obj.names", "cat\n")
    for name in "abc":
        image(tmp_path / f"obj_train_data/{name}.jpg")
        text(tmp_path / f"obj_train_data/{name}.txt", "0 0.25 0.5 0.25 0.333333")
    text(tmp_path / "train.txt", "data/obj_train_data/a.jpg\n/home/me/data/obj_train_data/c.jpg\n")
    text(tmp_path / "valid.txt", "data/obj_train_data/b.jpg\n")
    dataset = load(tmp_path)
    assert {split: [a.id for a in dataset.annotations(split)] for split in ("train", "val")} == {
        "train": ["a", "c"],
        "val": ["b"],
    }


def test_yolo_classes_in_the_folder_of_a_split_or_given(tmp_path):
    yolo(tmp_path, "", "0 0.25 0.5 0.25 0.333333")
    with pytest.raises(InputError, match="--class_names of train may name them"):
        load(tmp_path)
    assert load(tmp_path, class_names=["cat"]).annotations("train")[0].boxes.tolist() == [BOX]
    text(tmp_path / "train/_darknet.labels", "dog\n")
    assert load(tmp_path).info.class_names == ("dog",)


def test_yolo_keypoints_are_no_polygons(tmp_path):
    yolo(tmp_path, "names: [king]\nkpt_shape: [2, 2]\n", "0 0.25 0.5 0.25 0.333333 0.9 0.9 0.1 0.1")
    (annotation,) = load(tmp_path).annotations("train")
    assert annotation.boxes.tolist() == [BOX]
    assert annotation.masks is None


def test_yolo_labels_without_images_are_named(tmp_path, caplog):
    yolo(tmp_path)
    text(tmp_path / "train/labels/lost.txt", "0 0.5 0.5 0.1 0.1")
    load(tmp_path).annotations("train")
    assert "left out 1 label file without an image of the same name: lost.txt" in caplog.text


def test_masks_next_to_the_images_of_xml_files(tmp_path):
    voc_pairs(tmp_path, "images", "annotations/xmls")
    image(tmp_path / "annotations/trimaps/0.png")
    dataset = load(tmp_path)
    assert dataset.info.splits == {"train": 1, "val": 1, "test": 1}
    assert not any("left out" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("file", "message"), [("train.csv", "convert CSV files"), ("train/via_region_data.json", "the JSON of VIA")]
)
def test_other_formats_are_refused_with_advice(tmp_path, file, message):
    image(tmp_path / "train/a.jpg")
    text(tmp_path / file, "{}")
    with pytest.raises(InputError, match=message):
        load(tmp_path)
