"""Readers of images with boxes and their batches: folders the tests write, errors that name the file, and purity."""

import dataclasses
import json
import logging
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet.detection.data import boxes
from keras_resnet.detection.data.boxes import DetectionTransform
from keras_resnet.errors import InputError

VIEW = DetectionTransform(48, 64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
DOG = ("dog", (11, 21, 30, 40), 0)


def voc_folder(root, content, size=(60, 80), splits=None):
    """A folder in VOC's layout; `content` is name -> objects (class, (xmin, ymin, xmax, ymax), difficult)."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for number, (name, objects) in enumerate(content.items()):
        Image.fromarray(np.full((*size, 3), 20 * number, "uint8")).save(root / "JPEGImages" / f"{name}.jpg")
        entries = "".join(
            f"<object><name>{label}</name><difficult>{difficult}</difficult><bndbox><xmin>{box[0]}</xmin>"
            f"<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
            for label, box, difficult in objects
        )
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{entries}</annotation>")
    for split, names in (splits or {"train": list(content)}).items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


def test_voc_folder(tmp_path):
    content = {"a": [DOG, ("cat", (1, 1, 80, 60), 1)], "b": [], "c": [("dog", (2.5, 3.5, 9.0, 8.0), 0)]}
    root = voc_folder(tmp_path / "voc", content, splits={"train": ["a", "b"], "val": ["c"]})
    dataset = boxes.load(f"folder:{root}")
    assert dataset.info.class_names == ("cat", "dog")
    assert dataset.info.splits == {"train": 2, "val": 1}
    first, second = dataset.pictures("train")
    # Pixels are counted from 1 there, the last included.
    np.testing.assert_allclose(first.boxes * [60, 80, 60, 80], [[20, 10, 40, 30], [0, 0, 60, 80]], atol=1e-5)
    assert first.labels.tolist() == [1, 0]
    assert first.difficult.tolist() == [False, True]
    assert (first.size, first.id, len(second.labels)) == ((60, 80), "a", 0)
    assert len(dataset.pictures("train+val")) == 3
    assert [picture.id for picture in dataset.pictures("train[1:]")] == ["b"]


def test_bad_boxes_are_dropped_and_counted(tmp_path, caplog):
    bad = [DOG, ("dog", (20, 20, 20, 40), 0), ("dog", (100, 100, 120, 120), 0), ("dog", (70, 50, 200, 200), 0)]
    root = voc_folder(tmp_path / "voc", {"a": bad})
    with caplog.at_level(logging.WARNING):
        (picture,) = boxes.load(f"folder:{root}").pictures("train")
    np.testing.assert_allclose(picture.boxes[1] * [60, 80, 60, 80], [49, 69, 60, 80], atol=1e-5)
    assert len(picture.labels) == 2
    assert "dropped 2 boxes" in caplog.text


def breaking(name):
    def decorate(function):
        function.id = name
        return function

    return decorate


@breaking("xml")
def not_xml(root):
    (root / "Annotations/a.xml").write_text("hello")
    return "a.xml' is not XML"


@breaking("annotation")
def no_annotation(root):
    (root / "Annotations/a.xml").unlink()
    return "names 'a', but there is no file .*a.xml"


@breaking("image")
def no_image(root):
    (root / "JPEGImages/a.jpg").unlink()
    return "names 'a', but .*JPEGImages' has no such image"


@breaking("no image")
def not_an_image(root):
    (root / "JPEGImages/a.jpg").write_text("hello")
    return "a.jpg' cannot be read"


@breaking("number")
def not_a_number(root):
    path = root / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<xmin>11</xmin>", "<xmin>left</xmin>"))
    return "a.xml' has an object without four numbers"


@breaking("no boxes")
def no_boxes(root):
    (root / "Annotations/a.xml").write_text("<annotation/>")
    return "no box at all"


@breaking("lists")
def no_lists(root):
    (root / "ImageSets/Main/train.txt").unlink()
    return "must hold lists of image names"


@pytest.mark.parametrize(
    "damage", [not_xml, no_annotation, no_image, not_an_image, not_a_number, no_boxes, no_lists], ids=lambda f: f.id
)
def test_errors_of_a_voc_folder_name_the_file(tmp_path, damage):
    root = voc_folder(tmp_path / "voc", {"a": [DOG]})
    message = damage(root)
    with pytest.raises(InputError, match=message):
        boxes.load(f"folder:{root}", class_names=("dog",)).pictures("train")


def test_an_unknown_class_is_named_with_its_file(tmp_path):
    root = voc_folder(tmp_path / "voc", {"a": [DOG]})
    with pytest.raises(InputError, match=r"a\.xml' has class 'dog'; allowed are cat, cow"):
        boxes.load(f"folder:{root}", class_names=("cat", "cow")).pictures("train")


@pytest.mark.parametrize("name", ["folder:", "folder:/nowhere", "no_such_set"])
def test_no_such_data_set(name):
    with pytest.raises(InputError, match="dataset must"):
        boxes.load(name)


def test_a_folder_of_neither_layout(tmp_path):
    with pytest.raises(InputError, match="has neither"):
        boxes.load(f"folder:{tmp_path}")


def coco_folder(root, annotations, categories=((7, "cat"), (3, "dog"))):
    (root / "annotations").mkdir(parents=True)
    (root / "train").mkdir()
    Image.fromarray(np.zeros((60, 80, 3), "uint8")).save(root / "train/x.png")
    values = {
        "images": [{"id": 42, "file_name": "x.png", "height": 60, "width": 80}],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in categories],
    }
    (root / "annotations/instances_train.json").write_text(json.dumps(values))
    return root


def test_coco_folder(tmp_path):
    objects = [
        {"image_id": 42, "category_id": 7, "bbox": [10, 20, 30, 15], "area": 99, "iscrowd": 0},
        {"image_id": 42, "category_id": 3, "bbox": [0, 0, 80, 60], "iscrowd": 1},
        {"image_id": 42, "category_id": 3, "bbox": [5, 5, 0, 10]},
    ]
    dataset = boxes.load(f"folder:{coco_folder(tmp_path / 'coco', objects)}")
    assert dataset.info.class_names == ("dog", "cat")
    assert dataset.categories == (3, 7)
    (picture,) = dataset.pictures("train")
    np.testing.assert_allclose(picture.boxes * [60, 80, 60, 80], [[20, 10, 35, 40], [0, 0, 60, 80]], atol=1e-5)
    assert picture.labels.tolist() == [1, 0]
    assert picture.crowd.tolist() == [False, True]
    assert picture.areas.tolist() == [99, 4800]
    assert picture.id == 42


def test_errors_of_a_coco_folder(tmp_path):
    root = coco_folder(tmp_path / "one", [{"image_id": 42, "category_id": 9, "bbox": [0, 0, 5, 5]}])
    with pytest.raises(InputError, match=r"instances_train\.json' has the unknown category 9"):
        boxes.load(f"folder:{root}").pictures("train")
    root = coco_folder(tmp_path / "two", [])
    (root / "train/x.png").unlink()
    with pytest.raises(InputError, match=r"names the missing image .*x\.png"):
        boxes.load(f"folder:{root}").pictures("train")
    (root / "annotations/instances_train.json").write_text("[")
    with pytest.raises(InputError, match="not in COCO's format"):
        boxes.load(f"folder:{root}")
    (root / "annotations/instances_train.json").write_text('{"images": []}')
    with pytest.raises(InputError, match="it has no 'annotations'"):
        boxes.load(f"folder:{root}")
    entry = {"image_id": 42, "category_id": 7}
    keys = "must have bbox, category_id, image_id in each entry of annotations"
    four = "must have four numbers in each bbox"
    for number, (damaged, message) in enumerate(
        [(entry, keys), ([], keys), ({**entry, "bbox": [1]}, four), ({**entry, "bbox": None}, four)]
    ):
        root = coco_folder(tmp_path / f"entry{number}", [damaged])
        with pytest.raises(InputError, match=message):
            boxes.load(f"folder:{root}")


def test_sets_of_tensorflow_datasets(tmp_path, monkeypatch):
    """Records as voc/2007 and coco/2017 have them, from a stand-in builder: the real sets cannot be had offline."""
    import tensorflow_datasets as tfds

    label = tfds.features.ClassLabel(names=["cat", "dog"])
    features = {"image": tfds.features.Image(), "objects": {"label": label}}
    encoded = tf.io.encode_png(np.full((60, 80, 3), 9, "uint8")).numpy()
    records = [
        {
            "image": encoded,
            "image/filename": b"000001.jpg",
            "objects": {
                "bbox": np.array([[0.1, 0.2, 0.5, 0.6], [0.2, 0.2, 0.2, 0.4]], "float32"),
                "label": np.array([1, 0]),
                "is_difficult": np.array([True, False]),
            },
        },
        {
            "image": encoded,
            "image/id": 77,
            "objects": {
                "bbox": np.array([[0, 0, 1, 1]], "float32"),
                "label": np.array([0]),
                "is_crowd": np.array([True]),
                "area": np.array([123]),
            },
        },
    ]

    builder = types.SimpleNamespace(
        info=types.SimpleNamespace(splits={"train": types.SimpleNamespace(num_examples=2)}, features=features),
        data_dir=str(tmp_path),
        as_dataset=lambda split, decoders: records,
    )
    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: builder)
    monkeypatch.setattr(tfds, "as_numpy", iter)
    dataset = boxes.load("voc/2007")
    assert dataset.info.class_names == ("cat", "dog")
    first, second = dataset.pictures("train")
    np.testing.assert_allclose(first.boxes, [[0.1, 0.2, 0.5, 0.6]], atol=1e-6)
    assert (first.labels.tolist(), first.difficult.tolist(), first.id) == ([1], [True], "000001.jpg")
    assert (second.crowd.tolist(), second.areas.tolist(), second.id) == ([True], [123], 77)
    assert np.asarray(Image.open(second.path)).shape == (60, 80, 3)


def test_coco_has_80_classes_with_numbers_up_to_90():
    assert len(boxes.COCO_NUMBERS) == 80
    assert boxes.COCO_NUMBERS[-1] == 90


@pytest.fixture
def pictures(tmp_path, random):
    """Seven pictures of 60x80 pixels; each has a white rectangle where its box is."""
    found = []
    for number in range(7):
        pixels = np.zeros((60, 80, 3), "uint8")
        top, left = random.integers(0, 30, 2)
        pixels[top : top + 20, left : left + 40] = 255
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path)
        box = np.float32([[top / 60, left / 80, (top + 20) / 60, (left + 40) / 80]])
        nothing = np.zeros(1, bool)
        found.append(
            boxes.Annotation(str(path), number, (60, 80), box, np.int32([number % 2]), nothing, nothing, nothing)
        )
    return found


def take(dataset, count):
    return [{name: value.numpy() for name, value in batch.items()} for batch in dataset.take(count)]


@pytest.mark.parametrize(("mirror", "flip"), [(True, False), (True, True)])
def test_boxes_stay_on_what_they_enclose(pictures, mirror, flip):
    view = DetectionTransform(30, 60, (0.0,) * 3, (255.0,) * 3)
    seen = set()
    for batch in take(boxes.train(pictures, 2, view, mirror=mirror, flip=flip), 10):
        assert batch["images"].shape == (2, 32, 48, 3)
        assert batch["image_size"].tolist() == [[30, 40]] * 2
        for image, (box,), (label,) in zip(batch["images"], batch["boxes"], batch["labels"], strict=True):
            top, left, bottom, right = np.round(box).astype(int)
            assert image[top + 1 : bottom - 1, left + 1 : right - 1].min() > 0.9
            assert image.sum() == pytest.approx(3 * (box[2] - box[0]) * (box[3] - box[1]), rel=0.02)
            assert label in (1, 2)
            seen.add((top, left))
    assert len(seen) > 7


def test_a_batch_is_a_function_of_seed_and_step(pictures):
    whole = take(boxes.train(pictures, 2, VIEW, seed=3), 9)
    later = take(boxes.train(pictures, 2, VIEW, seed=3, start_step=5), 4)
    for first, second in zip(whole[5:], later, strict=True):
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])
    other = take(boxes.train(pictures, 2, VIEW, seed=4), 1)[0]
    assert not np.array_equal(whole[0]["seed"], other["seed"])


def test_workers_share_a_batch(pictures):
    """The parts of two workers, one behind the other, are the batch of one."""
    whole = take(boxes.train(pictures, 4, VIEW, seed=3, flip=True), 3)
    contexts = [tf.distribute.InputContext(2, worker, 2) for worker in (0, 1)]
    parts = [take(boxes.train(pictures, 4, VIEW, seed=3, flip=True, context=context), 3) for context in contexts]
    for batch, *own in zip(whole, *parts, strict=True):
        for name in batch:
            np.testing.assert_array_equal(np.concatenate([part[name] for part in own]), batch[name])
    with pytest.raises(InputError, match="batch_size must be a multiple of the 2 workers; got 3"):
        boxes.train(pictures, 3, VIEW, context=contexts[0])


def test_every_epoch_shows_each_picture_once(pictures):
    stream = boxes._plan([list(range(7))], 2, 0, 0)
    shown = np.concatenate([next(stream)[1] for _ in range(7)])
    assert sorted(shown[:7]) == sorted(shown[7:]) == list(range(7))
    assert list(shown[:7]) != list(shown[7:])


def test_orientations_are_never_mixed_and_resume_is_exact():
    groups = [list(range(5)), list(range(5, 12))]
    stream = boxes._plan(groups, 2, 1, 0)
    whole = [next(stream) for _ in range(12)]
    assert [step for step, _ in whole] == list(range(12))
    assert all(len({place < 5 for place in batch}) == 1 for _, batch in whole)
    # Two and three batches an epoch.
    assert sum(batch[0] < 5 for _, batch in whole[:5]) == 2
    stream = boxes._plan(groups, 2, 1, 7)
    for step, batch in whole[7:]:
        again = next(stream)
        assert again[0] == step
        np.testing.assert_array_equal(again[1], batch)


def test_more_boxes_than_there_is_room_for(pictures):
    many = np.tile(pictures[0].boxes, (9, 1))
    flags = np.zeros(9, bool)
    full = boxes.Annotation(pictures[0].path, 0, (60, 80), many, np.zeros(9, "int32"), flags, flags, flags)
    (batch,) = take(boxes.train([full], 1, VIEW, max_boxes=4), 1)
    assert batch["labels"].tolist() == [[1, 1, 1, 1]]


def test_a_damaged_image_is_named(pictures, random, tmp_path):
    path = tmp_path / "damaged.jpg"
    Image.fromarray(random.integers(0, 256, (60, 80, 3)).astype("uint8")).save(path)
    path.write_bytes(path.read_bytes()[:-1000])  # its header is whole
    damaged = dataclasses.replace(pictures[0], path=str(path))
    message = r"InputError: image /.*/damaged\.jpg is missing, damaged, too large or no"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        take(boxes.train([damaged], 1, VIEW), 1)
    ((_, batches),) = boxes.evaluate([*pictures, damaged], VIEW)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        take(batches, 8)


def test_batch_size_must_fit(pictures):
    with pytest.raises(InputError, match="batch_size must be from 1 to the 7 pictures of one orientation; got 8"):
        boxes.train(pictures, 8, VIEW)


def test_blood_cells(real_data):
    dataset = boxes.load(f"folder:{real_data / 'bccd'}")
    assert dataset.info.class_names == ("Platelets", "RBC", "WBC")
    assert dataset.info.splits == {"train": 205, "val": 87, "trainval": 292, "test": 72}
    labels = np.concatenate([picture.labels for picture in dataset.pictures("test")])
    assert np.bincount(labels).tolist() == [69, 805, 71]
