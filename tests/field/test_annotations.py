"""Annotated images as people's tools leave them: what is read, what is dropped and counted, what is refused by name."""

import json
import logging
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet.cli import main as cli
from keras_resnet.data import finder
from keras_resnet.detection import evaluate, inspection, nms
from keras_resnet.detection.average_precision import Detections
from keras_resnet.detection.config import DetectorConfig
from keras_resnet.detection.data import pipeline, sources
from keras_resnet.detection.data.transforms import DetectionTransform
from keras_resnet.errors import InputError
from tests.detection.data.folders import DOG, coco_folder, voc_folder

TRANSFORM = DetectionTransform(48, 64, (0.0,) * 3, (1.0,) * 3)
BOX = {"image_id": 42, "category_id": 7, "bbox": [10, 20, 30, 15]}


def load(root, split="train", **options):
    return sources.load(f"folder:{root}", **options).annotations(split)


def edit(path, *replacements):
    text = path.read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def edit_json(root, change, split="train"):
    path = root / f"annotations/instances_{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# Flags of objects


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", False),
        ("1", True),
        ("0 ", False),
        ("\n1\n", True),
        ("", False),
        ("Unspecified", False),
        ("False", False),
        ("true", True),
        ("1.0", True),
        ("no", False),
        ("None", False),
    ],
)
def test_values_of_difficult_truncated_and_occluded(tmp_path, value, expected):
    root = voc_folder(tmp_path / "voc", {"a": [DOG]})
    others = f"<truncated>{value}</truncated><occluded>{value}</occluded>"
    edit(root / "Annotations/a.xml", ("<difficult>0</difficult>", f"<difficult>{value}</difficult>{others}"))
    (annotation,) = load(root)
    assert annotation.difficult.tolist() == [expected]


def test_a_flag_that_says_neither_is_named(tmp_path):
    root = voc_folder(tmp_path / "voc", {"a": [("dog", (11, 21, 30, 40), "perhaps")]})
    with pytest.raises(InputError, match=r"a\.xml' has an object whose difficult is 'perhaps'; allowed are 0 and 1"):
        load(root)


@pytest.mark.parametrize(
    ("value", "expected"), [(0, False), (1, True), ("0", False), ("1", True), (None, False), (True, True), ("", False)]
)
def test_values_of_iscrowd(tmp_path, value, expected):
    (annotation,) = load(coco_folder(tmp_path / "coco", [BOX | {"iscrowd": value}]))
    assert annotation.crowd.tolist() == [expected]


# Lists of images


@pytest.mark.parametrize(
    ("names", "lines"),
    [
        (["IMG 0 (1)"], "{}\n"),
        (["my photo 1", "my photo 0"], "{}\n{}\n"),
        (["a", "b"], "  {}  \r\n\r\n{}\r\n"),
        (["a.b"], "{}"),
        (["a", "b"], "{}.jpg\n{}.jpg\n"),
        (["a"], "JPEGImages\\{}.JPG\n"),
        (["a"], "/home/me/data/Annotations/{}.xml\n"),
    ],
)
def test_names_in_image_lists(tmp_path, names, lines):
    root = voc_folder(tmp_path / "voc", {name: [DOG] for name in names})
    (root / "ImageSets/Main/train.txt").write_bytes(lines.format(*names).encode())
    (root / "ImageSets/Main/dog_train.txt").write_text("".join(f"{name}  1\n" for name in names))
    dataset = sources.load(f"folder:{root}")
    assert list(dataset.info.splits) == ["train"]
    assert [annotation.id for annotation in dataset.annotations("train")] == names


def test_only_lines_that_all_end_in_a_flag_are_the_list_of_a_class(tmp_path):
    root = voc_folder(tmp_path / "voc", {"frame 1": [DOG], "other": [DOG], "c": [DOG], "d": [DOG]})
    (root / "ImageSets/Main/train.txt").write_text("frame 1\nother\n")
    (root / "ImageSets/Main/dog_train.TXT").write_text("c -1\nd  0\n")
    assert sources.load(f"folder:{root}").info.splits == {"train": 2}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["a", "ä"])
def test_byte_order_marks(tmp_path, encoding, name):
    """Windows' editors write one, and its shell redirects to UTF-16."""
    root = voc_folder(tmp_path / "voc", {name: [DOG]})
    (root / "ImageSets/Main/train.txt").write_bytes(f"{name}\r\n".encode(encoding))
    xml = root / f"Annotations/{name}.xml"
    xml.write_bytes(f'<?xml version="1.0"?>{xml.read_text()}'.encode(encoding))
    assert [annotation.id for annotation in load(root)] == [name]
    root = coco_folder(tmp_path / "coco", [BOX])
    file = root / "annotations/instances_train.json"
    file.write_bytes(file.read_text().encode(encoding))
    assert len(load(root)) == 1


def test_an_empty_line_before_the_xml_declaration(tmp_path):
    root = voc_folder(tmp_path / "voc", {"a": [DOG]})
    xml = root / "Annotations/a.xml"
    xml.write_text(f'\n<?xml version="1.0"?>\n{xml.read_text()}')
    assert len(load(root)) == 1


@pytest.mark.parametrize("start", ['<annotation xmlns="http://example.org/voc">', "<v:annotation xmlns:v='urn:x'>"])
def test_xml_namespaces(tmp_path, start):
    root = voc_folder(tmp_path / "voc", {"a": [DOG]})
    prefix = "v:" if start.startswith("<v:") else ""
    changes = [("</annotation>", f"</{prefix}annotation>"), ("<object>", f"<{prefix}object>")]
    edit(root / "Annotations/a.xml", ("<annotation>", start), *changes, ("</object>", f"</{prefix}object>"))
    (annotation,) = load(root)
    assert annotation.boxes.tolist() == [[20, 10, 40, 30]]


def test_lists_that_macos_leaves_behind(tmp_path):
    root = voc_folder(tmp_path / "voc", {"a": [DOG]})
    (root / "ImageSets/Main/._train.txt").write_bytes(b"\0\5\26\7\xff")
    assert sources.load(f"folder:{root}").info.splits == {"train": 1}


def test_other_encodings_are_named_with_their_file(tmp_path):
    root = voc_folder(tmp_path / "voc", {"a": [DOG]})
    xml = root / "Annotations/a.xml"
    text = xml.read_text()
    xml.write_bytes(f'<?xml version="1.0" encoding="gb2312"?>{text}'.encode("gb2312"))
    with pytest.raises(InputError, match=r"a\.xml' is not XML: "):
        load(root)
    xml.write_text(text)
    (root / "ImageSets/Main/train.txt").write_bytes("ä\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"train\.txt' must be UTF-8 text; .* at byte 0"):
        load(root)


# Names of image files


@pytest.mark.parametrize("suffix", [".JPG", ".Jpg", ".jPEG", ".PNG", ".jfif"])
def test_image_suffixes_in_any_case(tmp_path, suffix):
    root = voc_folder(tmp_path / "voc", {"i0": [DOG]})
    (root / "JPEGImages/i0.jpg").rename(root / f"JPEGImages/i0{suffix}")
    (annotation,) = load(root)
    assert pathlib.Path(annotation.path).name == f"i0{suffix}"
    root = coco_folder(tmp_path / "coco", [BOX])
    (root / "train/x.png").rename(root / f"train/x{suffix.upper()}")
    edit_json(root, lambda content: content["images"][0].update(file_name=f"x{suffix.lower()}"))
    (annotation,) = load(root)
    assert pathlib.Path(annotation.path).name == f"x{suffix.upper()}"


def test_of_two_files_that_differ_in_case_the_named_one_is_taken(tmp_path):
    root = voc_folder(tmp_path / "voc", {"a": [DOG]})
    Image.new("RGB", (80, 60)).save(root / "JPEGImages/A.jpg")
    assert pathlib.Path(load(root)[0].path).name == "a.jpg"


@pytest.mark.parametrize(
    "name",
    [
        "x.png\r\n",
        "./x.png",
        ".\\x.png",
        "train\\x.png",
        "train/x.png",
        "C:\\Users\\me\\data\\x.png",
        "images/train/x.png",
    ],
)
def test_file_names_with_folders_of_another_machine(tmp_path, name):
    root = coco_folder(tmp_path / "coco", [BOX])
    edit_json(root, lambda content: content["images"][0].update(file_name=name))
    (annotation,) = load(root)
    assert pathlib.Path(annotation.path).name == "x.png"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("my%20photo.png", "my photo.png"),
        ("/data/local-files/?d=photos/x.png", "x.png"),
        ("https://bucket.example.org/a/caf%C3%A9.png", "caf\u00e9.png"),
        ("100%.png", "100%.png"),
        ("a%20b.png", "a%20b.png"),
        ("cafe\u0301.png", "caf\u00e9.png"),
        ("caf\u00e9.png", "cafe\u0301.png"),
    ],
)
def test_file_names_as_addresses_and_of_macos(tmp_path, name, file):
    root = coco_folder(tmp_path / "coco", [BOX])
    (root / "train/x.png").rename(root / "train" / file)
    edit_json(root, lambda content: content["images"][0].update(file_name=name))
    (annotation,) = load(root)
    assert pathlib.Path(annotation.path).name == file


def test_two_names_of_one_file_are_refused(tmp_path):
    """Where folders are left out, a/x.png and b/x.png would be the same image with the boxes of both."""

    def change(content):
        content["images"] = [{"id": id, "file_name": f"{id}/x.png"} for id in (42, 43)]

    root = coco_folder(tmp_path / "coco", [BOX])
    edit_json(root, change)
    with pytest.raises(InputError, match=r"names '42/x\.png' and '43/x\.png', for which there is only one image"):
        load(root)


# Boxes


@pytest.mark.parametrize(
    "bbox",
    [
        [],
        None,
        [float("nan"), 1, 5, 5],
        [1, 1, float("inf"), 5],
        [30, 20, -10, -10],
        [5, 5, 0, 10],
        [100, 100, 10, 10],
        [-20, 0, 10, 10],
    ],
)
def test_boxes_without_an_area_are_dropped_counted_and_named(tmp_path, caplog, bbox):
    root = coco_folder(tmp_path / "coco", [BOX, BOX | {"bbox": bbox, "area": 7}])
    (annotation,) = load(root)
    assert annotation.boxes.tolist() == [[20, 10, 35, 40]]
    (record,) = caplog.records
    assert record.getMessage().endswith("train.json: dropped 1 box without an area inside the image, of x.png")


@pytest.mark.parametrize(
    "bndbox",
    [
        "",
        "<robndbox><cx>3</cx></robndbox>",
        "<bndbox><xmin>nan</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>",
        "<bndbox><xmin>30</xmin><ymin>30</ymin><xmax>20</xmax><ymax>40</ymax></bndbox>",
        "<bndbox><xmin>100</xmin><ymin>100</ymin><xmax>120</xmax><ymax>120</ymax></bndbox>",
    ],
)
def test_objects_without_an_area_are_dropped_counted_and_named(tmp_path, caplog, bndbox):
    root = voc_folder(tmp_path / "voc", {name: [DOG] for name in "abcdefg"})
    for name in "abcdefg":
        edit(
            root / f"Annotations/{name}.xml",
            ("</annotation>", f"<object><name>dog</name>{bndbox}</object></annotation>"),
        )
    assert [len(annotation.labels) for annotation in load(root)] == [1] * 7
    assert (
        "dropped 7 boxes without an area inside the image, of a.jpg, b.jpg, c.jpg, d.jpg, e.jpg and 2 more"
        in caplog.text
    )


def test_boxes_beyond_the_image_are_evaluated_as_annotated_and_clipped_in_training(tmp_path):
    root = coco_folder(tmp_path / "coco", [BOX | {"bbox": [70, 50, 20, 20]}])
    (annotation,) = load(root)
    assert annotation.boxes.tolist() == [[50, 70, 70, 90]]
    (batch,) = pipeline.train([annotation], 1, TRANSFORM, mirror=False).take(1)
    np.testing.assert_allclose(batch["boxes"][0], [[40, 56, 48, 64]], atol=1e-4)


def test_boxes_of_images_that_are_not_listed_are_counted(tmp_path, caplog):
    load(coco_folder(tmp_path / "coco", [BOX, BOX | {"image_id": 1}, BOX | {"image_id": 2}]))
    assert "left out 2 boxes of images that it does not list" in caplog.text


@pytest.mark.parametrize(("image_id", "category_id"), [("42", "7"), (42.0, 7.0)])
def test_ids_of_other_types(tmp_path, image_id, category_id):
    (annotation,) = load(coco_folder(tmp_path / "coco", [BOX | {"image_id": image_id, "category_id": category_id}]))
    assert annotation.labels.tolist() == [1]


def test_numbers_as_text(tmp_path):
    (annotation,) = load(coco_folder(tmp_path / "coco", [BOX | {"bbox": ["10", "20", "30", "15"], "area": None}]))
    assert annotation.boxes.tolist() == [[20, 10, 35, 40]]
    assert annotation.areas.tolist() == [450]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(annotations=None), "its annotations are no list"),
        (lambda content: content["annotations"][0].update(iscrowd="maybe"), "0 or 1 in each iscrowd; got 'maybe'"),
        (lambda content: content["annotations"][0].update(area="big"), "a number in each area; got 'big'"),
        (lambda content: content["images"][0].update(height="tall"), "numbers as height and width of an image"),
        (lambda content: content["images"].append({"id": 42, "file_name": "x.png"}), "has two images of id 42"),
        (
            lambda content: content["categories"].append({"id": 9, "name": "cat"}),
            "lists the class 'cat' twice, as 7 and 9",
        ),
        (
            lambda content: content["categories"].append({"id": 7, "name": "owl"}),
            "two classes of id 7: 'cat' and 'owl'",
        ),
    ],
)
def test_damaged_annotation_files_are_named(tmp_path, change, message):
    root = coco_folder(tmp_path / "coco", [BOX])
    edit_json(root, change)
    with pytest.raises(InputError, match=rf"instances_train\.json' .*{message}"):
        load(root)


# Classes of several annotation files


def two_files(root, train, val):
    """A folder whose files have these classes; its image shows a cat."""
    for split, classes in (("train", train), ("val", val)):
        (id,) = (id for id, name in classes if name.strip() == "cat")
        other = coco_folder(root.with_name(split), [BOX | {"category_id": id}], classes)
        edit_json(other, lambda content: content["images"][0].update(file_name="x.png"))
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        shutil.move(other / "annotations/instances_train.json", root / f"annotations/instances_{split}.json")
        shutil.move(other / "train", root / split)
    return root


@pytest.mark.parametrize(
    ("train", "val", "names"),
    [
        ([(1, "cat"), (2, "dog")], [(1, "dog"), (2, "cat")], ("cat", "dog")),
        ([(2, "cat"), (1, "dog")], [(0, "cat"), (5, "dog")], ("dog", "cat")),
        ([(1, "cat"), (2, "dog")], [(2, "cat ")], ("cat", "dog")),
        ([(1, "cat")], [(1, "ape"), (2, "cat")], ("ape", "cat")),
        ([("1", "cat"), ("2", "dog")], [(1, "cat"), (2, "dog")], ("cat", "dog")),
    ],
)
def test_classes_are_matched_by_name(tmp_path, train, val, names):
    root = two_files(tmp_path / "coco", train, val)
    dataset = sources.load(f"folder:{root}")
    assert dataset.info.class_names == names
    for split in ("train", "val"):
        (annotation,) = dataset.annotations(split)
        assert names[annotation.labels[0]] == "cat"


def test_files_of_other_classes_are_refused_unless_they_are_given(tmp_path):
    root = two_files(tmp_path / "coco", [(1, "cat"), (2, "dog")], [(1, "cat"), (2, "dogs")])
    with pytest.raises(
        InputError, match=r"_val\.json' has 'dogs' \(did you mean 'dog'\?\), .*_train\.json' has only cat, dog"
    ):
        load(root)
    names = ("dogs", "dog", "cat")
    assert load(root, class_names=names)[0].labels.tolist() == [2]
    with pytest.raises(InputError, match=r"has the class 'dog'.*; allowed are cat, dogs"):
        load(root, class_names=("cat", "dogs"))


def test_a_run_keeps_the_order_of_its_classes(tmp_path):
    """`evaluate` opens the data set with the classes of the run, whatever numbers they have got since."""
    root = coco_folder(tmp_path / "coco", [BOX])
    assert load(root, class_names=("cat", "dog"))[0].labels.tolist() == [0]
    assert load(root, class_names=("dog", "cat"))[0].labels.tolist() == [1]


# Sizes and orientation


def rotated(root, orientation=6):
    """Make the image of a COCO folder a JPEG whose EXIF orientation swaps its sides."""
    exif = Image.Exif()
    exif[finder.ORIENTATION] = orientation
    pixels = np.zeros((80, 60, 3), "uint8")
    pixels[:40] = 255  # of the upright image: the right half
    Image.fromarray(pixels).save(root / "train/x.jpg", exif=exif, quality=95)
    edit_json(root, lambda content: content["images"][0].update(file_name="x.jpg"))
    return root


def test_sizes_swapped_by_exif(tmp_path):
    root = rotated(coco_folder(tmp_path / "coco", [BOX]))
    message = (
        r"x\.jpg' has 80x60 pixels \(height x width\), but .*train\.json says 60x80; .* orientation .*: give --exif"
    )
    with pytest.raises(InputError, match=message):
        load(root)
    (annotation,) = load(root, exif=True)
    assert annotation.size == (60, 80)
    transform = DetectionTransform(60, 80, (0.0,) * 3, (1.0,) * 3, exif=True)
    (batch,) = pipeline.train([annotation], 1, transform, mirror=False).take(1)
    image = batch["images"][0].numpy()
    assert image.shape == (64, 80, 3)
    assert image[:60, 45:].min() > 200
    assert image[:60, :35].max() < 50
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    (picture,) = evaluate.write_pictures([nothing], [annotation], ("dog", "cat"), tmp_path / "out", transform=transform)
    assert Image.open(picture).size == (80, 60)
    edit_json(root, lambda content: content["images"][0].update(height=80, width=60))
    assert load(root)[0].size == (80, 60)
    with pytest.raises(InputError, match=r"has 60x80 pixels .* says 80x60; .*: leave out --exif"):
        load(root, exif=True)


def test_an_orientation_that_does_not_swap_the_sides(tmp_path):
    root = rotated(coco_folder(tmp_path / "coco", [BOX]), orientation=3)
    edit_json(root, lambda content: content["images"][0].update(height=80, width=60))
    assert load(root)[0].size == load(root, exif=True)[0].size == (80, 60)


@pytest.mark.parametrize("declared", ["<width>60</width><height>80</height>", "<width>800</width><height>600</height>"])
def test_sizes_in_xml_must_be_those_of_the_image(tmp_path, declared):
    root = voc_folder(tmp_path / "voc", {"a": [DOG]})
    edit(root / "Annotations/a.xml", ("<annotation>", f"<annotation><size>{declared}</size>"))
    with pytest.raises(
        InputError, match=r"a\.jpg' has 60x80 pixels \(height x width\), but .*, split train says \d+x\d+\."
    ):
        load(root)


@pytest.mark.parametrize("declared", ["", "<width>0</width><height>0</height>", "<width/><height/>"])
def test_tools_that_write_no_size(tmp_path, declared):
    root = voc_folder(tmp_path / "voc", {"a": [DOG]})
    edit(root / "Annotations/a.xml", ("<annotation>", f"<annotation><size>{declared}</size>"))
    assert load(root)[0].size == (60, 80)
    root = coco_folder(tmp_path / "coco", [BOX])
    edit_json(root, lambda content: content["images"][0].update(height=None, width=0))
    assert load(root)[0].size == (60, 80)


def test_an_image_that_is_replaced_by_one_of_another_size(tmp_path):
    root = voc_folder(tmp_path / "voc", {"a": [DOG]})
    annotations = load(root)
    Image.new("RGB", (60, 80)).save(root / "JPEGImages/a.jpg")
    message = r"a\.jpg has 80x60 pixels, but its annotation says 60x80"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        list(pipeline.train(annotations, 1, TRANSFORM).take(1))
    with pytest.raises(InputError, match=message):
        pipeline.check_images(annotations, TRANSFORM)


# Images that cannot be decoded


@pytest.fixture
def one_truncated(tmp_path, random):
    """Five images, of which b misses its last bytes; each has its own gray."""
    root = voc_folder(tmp_path / "voc", {name: [DOG] for name in "abcde"})
    for number, name in enumerate("abcde"):
        noise = random.integers(0, 20, (60, 80, 3)) + 40 * number
        Image.fromarray(noise.astype("uint8")).save(root / f"JPEGImages/{name}.jpg", quality=95)
    path = root / "JPEGImages/b.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    return root


def gray(batch):
    return np.round((batch["images"].numpy()[:, :48, :64].mean((1, 2, 3)) - 10) / 40).astype(int)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_next_image_takes_the_place_of_a_truncated_one(one_truncated, caplog, batch_size):
    annotations = load(one_truncated)
    batches = pipeline.train(annotations, batch_size, TRANSFORM, max_broken=0.2, mirror=False)
    with caplog.at_level(logging.WARNING):
        shown = np.concatenate([gray(batch) for batch in batches.take(20 // batch_size)])
    assert np.bincount(shown, minlength=5).tolist() == [4, 0, 8, 4, 4]
    (record,) = caplog.records
    assert record.getMessage() == f"skipped {annotations[1].path}, which cannot be decoded (1 so far)"
    resumed = pipeline.train(annotations, batch_size, TRANSFORM, max_broken=0.2, mirror=False, start_step=4)
    (batch,) = resumed.take(1)
    assert gray(batch).tolist() == shown[4 * batch_size : 5 * batch_size].tolist()


def test_more_broken_images_than_max_broken_allows(one_truncated):
    (one_truncated / "JPEGImages/c.jpg").write_bytes((one_truncated / "JPEGImages/b.jpg").read_bytes())
    annotations = load(one_truncated)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"2 files cannot be decoded, more than max_broken .* \(1\)"
    ):
        list(pipeline.train(annotations, 1, TRANSFORM, max_broken=0.2).take(10))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"b\.jpg is missing, damaged"):
        list(pipeline.train(annotations[1:3], 1, TRANSFORM, max_broken=1.0).take(10))


def test_evaluation_refuses_a_truncated_image(one_truncated):
    annotations = load(one_truncated)
    with pytest.raises(InputError, match=r"b\.jpg is missing, damaged, too large or no"):
        pipeline.check_images(annotations, TRANSFORM)
    pipeline.check_images([*annotations[:1], *annotations[2:]], TRANSFORM)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_a_file_without_a_header_counts_as_broken_if_its_size_is_declared(tmp_path, content):
    root = coco_folder(tmp_path / "coco", [BOX])
    (root / "train/x.png").write_bytes(content)
    annotations = load(root)
    with pytest.raises(InputError, match=r"x\.png is missing, damaged"):
        pipeline.check_images(annotations, TRANSFORM)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"1 file cannot be decoded"):
        list(pipeline.train(annotations, 1, TRANSFORM).take(1))


def test_the_truncated_photograph(real_data, tmp_path):
    root = voc_folder(tmp_path / "voc", {name: [] for name in ("00090", "raccoon_99")})
    for name in ("00090", "raccoon_99"):
        for suffix, source, target in (("jpg", "images", "JPEGImages"), ("xml", "annotations", "Annotations")):
            shutil.copy(real_data / f"layouts/voc_two_folders/{source}/{name}.{suffix}", root / target)
    annotations = load(root)
    with pytest.raises(InputError, match=r"00090\.jpg is missing, damaged"):
        pipeline.check_images(annotations, TRANSFORM)


# The command


def error_of(capsys, *arguments):
    assert cli.main(list(arguments)) == 1
    return capsys.readouterr().err.splitlines()[-1]


def test_the_network_is_checked_before_the_data_are_read(capsys, tmp_path):
    arguments = ["train", "--preset=bccd_resnet50", "--data=/nowhere", f"--workdir={tmp_path / 'run'}"]
    assert "backbone must be one of" in error_of(capsys, *arguments, "--backbone=resnet51")
    assert "did you mean 'resnet50'" in error_of(capsys, *arguments, "--backbone=resnet51")
    message = "freeze_at must be one of 0, 1, 2, 3, 4, 5; got 9"
    assert message in error_of(capsys, *arguments, "--freeze_at=9")
    with pytest.raises(InputError, match=message):
        DetectorConfig(freeze_at=9)


def test_the_folder_of_a_preset_is_given_by_data(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = error_of(capsys, "train", "--preset=bccd_resnet50", "--workdir=run")
    assert "--data=PATH" in message
    assert message.endswith("got 'BCCD'.")


# Detections


def test_detections_without_an_area_are_dropped():
    boxes = tf.constant(
        [[0, 0, 10, 10], [5, 30, 15, 30], [40, 0, 40, 20], [50, 50, 50, 50], [20, 20, 40, 40]], tf.float32
    )
    probabilities = tf.constant([[0.3, 0.7], [0.05, 0.95], [0.1, 0.9], [0.2, 0.8], [0.4, 0.6]])
    found = nms.detections(boxes[None, :, None], probabilities[None], tf.ones([1, 5], bool), detections_per_image=5)
    assert found.count.numpy().tolist() == [2]
    assert found.boxes.numpy()[0, :2].tolist() == [[0, 0, 10, 10], [20, 20, 40, 40]]


# Boxes in other units, and objects with a mask alone


@pytest.mark.parametrize("bbox", [None, [], [0, 0, 0, 0]])
def test_the_box_of_an_object_with_a_mask_alone(tmp_path, bbox):
    polygon = [[10, 20, 30, 20, 30, 40, 10, 40]]
    entry = {"image_id": 42, "category_id": 7, "segmentation": polygon} | ({} if bbox is None else {"bbox": bbox})
    (annotation,) = load(coco_folder(tmp_path / "coco", [entry]))
    assert annotation.boxes.tolist() == [[20, 10, 40, 30]]
    assert annotation.areas.tolist() == [400]


def test_fractions_in_place_of_pixels_are_refused(tmp_path):
    message = "must have boxes in pixels; all of them end within the first pixel"
    with pytest.raises(InputError, match=message):
        load(coco_folder(tmp_path / "coco", [BOX | {"bbox": [0.1, 0.2, 0.5, 0.5]}]))
    with pytest.raises(InputError, match=message):
        load(voc_folder(tmp_path / "voc", {"a": [("dog", (0.1, 0.2, 0.5, 0.6), 0)]}))


def test_corners_in_place_of_widths_and_heights_are_warned_of(tmp_path, caplog):
    load(coco_folder(tmp_path / "coco", [BOX, BOX | {"bbox": [50, 5, 70, 15]}]))
    assert "1 of 2 boxes end far beyond the right or bottom side" in caplog.text


def test_inspect_names_repeated_boxes_and_turned_images(tmp_path):
    root = coco_folder(tmp_path / "coco", [BOX, BOX])
    assert "1 box of the same class and place as another" in inspection.inspect(str(root), pictures=1).faults
    root = voc_folder(tmp_path / "voc", {"a": [DOG]})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((60, 80, 3), "uint8")).save(root / "JPEGImages/a.jpg", exif=exif)
    (fault,) = inspection.inspect(str(root), pictures=1).faults
    assert fault.startswith("1 image with an EXIF orientation that swaps the sides, used as stored")
    assert fault.endswith("a.jpg")


# VOC's masks


def voc_mask(root, numbers, mode):
    """Write the numbers of objects u8[H,W] as a PNG; the first colors of VOC's palette are (128, 0, 0), (0, 128, 0)."""
    picture = Image.fromarray(numbers)
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 756 + [224, 224, 192])
    (root / "SegmentationObject").mkdir()
    picture.convert(mode).save(root / "SegmentationObject/a.png")


@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA"])
def test_masks_of_voc_with_and_without_a_palette(tmp_path, mode):
    root = voc_folder(tmp_path / "voc", {"a": [DOG, ("cat", (51, 6, 70, 15), 0)]})
    numbers = np.zeros((60, 80), "uint8")
    numbers[19:41, 9:31] = 255
    numbers[20:40, 10:30], numbers[5:15, 50:70] = 1, 2
    voc_mask(root, numbers, mode)
    (annotation,) = load(root)
    for number, mask in enumerate(annotation.masks, start=1):
        np.testing.assert_array_equal(mask.draw(), numbers == number)


def test_colors_that_are_not_voc_s_are_refused(tmp_path):
    root = voc_folder(tmp_path / "voc", {"a": [DOG]})
    (root / "SegmentationObject").mkdir()
    Image.fromarray(np.full((60, 80, 3), 7, "uint8")).save(root / "SegmentationObject/a.png")
    with pytest.raises(InputError, match=r"its color in VOC's palette, in each pixel; got \(7, 7, 7\)"):
        load(root)


def test_masks_with_more_objects_than_the_xml(tmp_path, caplog):
    root = voc_folder(tmp_path / "voc", {"a": [DOG]})
    numbers = np.zeros((60, 80), "uint8")
    numbers[0, :2] = 1, 2
    voc_mask(root, numbers, "P")
    load(root)
    assert "1 mask has more objects than the XML: a.png" in caplog.text
