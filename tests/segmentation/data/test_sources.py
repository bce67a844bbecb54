"""Every layout on a small data set, with labels worked by hand, and folders that are refused."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_resnet.errors import InputError
from keras_resnet.segmentation.data import sources
from keras_resnet.segmentation.data.labels import LabelOptions
from tests.segmentation import sets
from tests.segmentation.sets import save, scene


def load(root, kind="folder", **options):
    return sources.load(f"{kind}:{root}", options=LabelOptions(**options))


@pytest.mark.parametrize("masks", ["masks", "annotations", "labels", "Masks"])
def test_two_folders(tmp_path, masks):
    dataset = load(sets.two_folders(tmp_path, masks=masks))
    assert dataset.info.class_names == ("red", "green", "blue")
    assert dataset.info.splits == {"train": 3, "val": 2}
    assert dataset.info.colors == ("#800000", "#008000", "#808000")
    assert [example.name for example in dataset.examples("train")] == ["x0", "x1", "x2"]
    assert len(dataset.examples("validation+train[:1]")) == 3
    for number, example in enumerate(dataset.examples("val")):
        np.testing.assert_array_equal(np.asarray(Image.open(example.path)), scene(number)[0])
        np.testing.assert_array_equal(example.read_label(), scene(number)[1])


@pytest.mark.parametrize(
    ("image", "mask", "splits"),
    [
        ("train/a.png", "trainannot/a.png", {"train": 1}),
        ("train/images/a.jpg", "train/masks/a.png", {"train": 1}),
        ("images/a.jpg", "masks/a.png", {"train": 1}),
        ("images/train/city/a.jpg", "masks/train/city/a.png", {"train": 1}),
        ("images/val/a.jpg", "masks/val/a_mask.png", {"val": 1}),
        ("images/val/a.b.jpg", "masks/val/a.b_L.png", {"val": 1}),
    ],
    ids=["SegNet", "split first", "no splits", "nested", "ending", "dots in names"],
)
def test_places_of_images_and_masks(tmp_path, image, mask, splits):
    pixels, label = scene(0)
    save(tmp_path / image, pixels)
    save(tmp_path / mask, label)
    dataset = load(tmp_path)
    assert dataset.info.splits == splits
    assert dataset.info.class_names == ("0", "1", "2")
    np.testing.assert_array_equal(dataset.examples(next(iter(splits)))[0].read_label(), label)


def test_what_has_no_counterpart_is_left_out_and_named(tmp_path, caplog):
    root = sets.two_folders(tmp_path)
    (root / "masks/train/x1.png").unlink()
    (root / "images/val/x0.png").unlink()
    (root / "images/train/notes.txt").write_text("")
    save(root / "images/test/y.png", scene(0)[0])
    assert load(root).info.splits == {"train": 2, "val": 1}
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == (
        f"{root}: left out files that are not images: 1 ('images/train/notes.txt'); images without a mask: 1 "
        "('images/train/x1.png'); masks without an image: 1 ('masks/val/x0.png'); folders: 1 ('images/test')"
    )


def test_void_of_camvid(tmp_path):
    root = sets.two_folders(tmp_path)
    save(root / "masks/val/x0.png", np.where(scene(0)[1] == 255, 11, scene(0)[1]).astype("uint8"))
    with pytest.raises(InputError, match=r"x0.png' has the value 11"):
        load(root).examples("val")[0].read_label()
    np.testing.assert_array_equal(load(root, ignore_labels=(11,)).examples("val")[0].read_label(), scene(0)[1])


def test_two_classes_of_0_and_255(tmp_path):
    save(tmp_path / "images/a.png", np.zeros((1, 3, 3), "uint8"))
    save(tmp_path / "masks/a.png", np.uint8([[0, 255, 0]]))
    with pytest.raises(InputError, match="no values but 0 and 255, and 255 is ignored; --label_values=0,255 makes it"):
        load(tmp_path)
    dataset = load(tmp_path, label_values=(0, 255))
    assert dataset.info.class_names == ("0", "1")
    assert dataset.examples("train")[0].read_label().tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("flag", [False, True])
def test_a_table_of_colors(tmp_path, flag):
    save(tmp_path / "images/a.png", np.zeros((1, 3, 3), "uint8"))
    save(tmp_path / "masks/a.png", np.uint8([[[70, 70, 70], [0, 0, 0], [128, 64, 128]]]))
    table = tmp_path / ("colors.txt" if flag else "label_colors.txt")
    table.write_text("128 64 128 road\n0 0 0 void\n70 70 70 building\n")
    options = {"label_colors": str(table)} if flag else {}
    dataset = load(tmp_path, **options)
    assert (dataset.info.class_names, dataset.info.colors) == (("road", "building"), ("#804080", "#464646"))
    assert dataset.examples("train")[0].read_label().tolist() == [[1, 255, 0]]
    only = load(tmp_path, class_names=("building",), **options)
    assert only.examples("train")[0].read_label().tolist() == [[0, 255, 255]]
    with pytest.raises(InputError, match=r"it has none of 'bilding' \(did you mean 'building'\?\)"):
        load(tmp_path, class_names=("bilding",), **options)
    with pytest.raises(InputError, match="ignore_labels cannot be combined with the table of colors"):
        load(tmp_path, ignore_labels=(1,), **options)


@pytest.mark.parametrize("kind", ["folder", "voc"])
def test_voc(tmp_path, kind):
    dataset = load(sets.voc(tmp_path), kind)
    assert dataset.info.splits == {"train": 1, "val": 1}
    assert dataset.info.class_names[:3] == ("background", "aeroplane", "bicycle")
    assert dataset.info.colors[:2] == ("#000000", "#800000")
    (example,) = dataset.examples("val")
    assert (example.name, example.path[-4:]) == ("2007_1", ".jpg")
    np.testing.assert_array_equal(example.read_label(), scene(1)[1])


def test_voc_with_more_masks(tmp_path):
    root = sets.voc(tmp_path)
    save(root / "SegmentationClassAug/2007_1.png", scene(2)[1])
    shutil.move(root / "SegmentationClass/2007_1.png", root / "2007_1.png")
    lines = "2007_1\n/JPEGImages/2007_0.jpg /SegmentationClass/2007_0.png\n"
    (root / "ImageSets/Segmentation/trainaug.txt").write_text(lines)
    first, second = load(root).examples("trainaug")
    np.testing.assert_array_equal(first.read_label(), scene(2)[1])
    np.testing.assert_array_equal(second.read_label(), scene(0)[1])
    shutil.rmtree(root / "SegmentationClassAug")
    with pytest.raises(InputError, match=r"an image list names '2007_1', but .*SegmentationClass' has no such mask"):
        load(root).examples("trainaug")


@pytest.mark.parametrize(
    ("ending", "values"),
    [("labelTrainIds", [[0, 18, 255, 13]]), ("labelIds", [[7, 33, 0, 26]])],
)
def test_cityscapes(tmp_path, ending, values):
    save(tmp_path / "leftImg8bit/train/aachen/aachen_0_leftImg8bit.png", np.zeros((1, 4, 3), "uint8"))
    save(tmp_path / f"gtFine/train/aachen/aachen_0_gtFine_{ending}.png", np.uint8(values))
    dataset = load(tmp_path)
    assert (len(dataset.info.class_names), dataset.info.class_names[13]) == (19, "car")
    assert dataset.info.colors[0] == "#804080"
    (example,) = dataset.examples("train")
    assert example.name == "aachen_0"
    assert example.read_label().tolist() == [[0, 18, 255, 13]]
    assert load(tmp_path, "cityscapes", class_names=dataset.info.class_names).info.name == f"cityscapes:{tmp_path}"
    with pytest.raises(InputError, match="cannot be combined with Cityscapes"):
        load(tmp_path, ignore_labels=(1,))
    (tmp_path / f"gtFine/train/aachen/aachen_0_gtFine_{ending}.png").unlink()
    with pytest.raises(InputError, match=r"leftImg8bit.png' has no mask; there is neither .*labelTrainIds.png"):
        load(tmp_path).examples("train")


def test_ade20k(tmp_path):
    save(tmp_path / "images/training/a.jpg", np.zeros((1, 3, 3), "uint8"))
    save(tmp_path / "annotations/training/a.png", np.uint8([[0, 1, 150]]))
    dataset = load(tmp_path, "ade20k")
    assert (len(dataset.info.class_names), dataset.info.splits) == (150, {"training": 1})
    assert dataset.examples("train")[0].read_label().tolist() == [[255, 0, 149]]
    rows = [f"{number}\t0.1\t1\t1\t0\t{name}" for number, name in enumerate(["wall", "door, portal", "door"], 1)]
    (tmp_path / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tStuff\tName", *rows]))
    save(tmp_path / "annotations/training/a.png", np.uint8([[0, 1, 3]]))
    dataset = load(tmp_path)
    assert (dataset.info.name, dataset.info.class_names) == (f"ade20k:{tmp_path}", ("wall", "door 2", "door 3"))
    assert dataset.examples("train")[0].read_label().tolist() == [[255, 0, 2]]


def test_coco(tmp_path):
    """A polygon of category 7 and runs of category 3, which overlap in two pixels."""
    annotations = [
        {"category_id": 7, "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]]},
        {"category_id": 3, "segmentation": {"size": [6, 8], "counts": [26, 4, 18]}, "iscrowd": 1},
    ]
    dataset = load(sets.coco(tmp_path, annotations))
    assert dataset.info.class_names == ("background", "dog", "cat")
    (example,) = dataset.examples("train")
    expected = np.zeros((6, 8), int)
    expected[1:4, 1:5] = 2
    expected[2:6, 4] = [255, 255, 1, 1]
    assert example.read_label().tolist() == expected.tolist()
    cat = load(tmp_path, "coco", class_names=("background", "cat")).examples("train")[0].read_label()
    assert cat.tolist() == np.where(np.isin(expected, (2, 255)), 1, 0).tolist()
    with pytest.raises(InputError, match="class_names must be the background and categories of"):
        load(tmp_path, class_names=("background", "cow"))


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [6, 9], "counts": [54]}, "it is of 6x9 pixels, the image of 6x8"),
        ({"size": [6, 8], "counts": [50]}, "the runs have 50 pixels, the image 6x8"),
        ([[1, 2, 3]], "neither polygons nor runs"),
        ({"counts": [48]}, "neither polygons nor runs: runs must have size and counts"),
    ],
)
def test_wrong_segmentations_of_coco(tmp_path, segmentation, message):
    dataset = load(sets.coco(tmp_path, [{"category_id": 7, "segmentation": segmentation}]))
    with pytest.raises(InputError, match=message):
        dataset.examples("train")[0].read_label()


def test_coco_files_are_checked(tmp_path):
    root = sets.coco(tmp_path, [{"category_id": 9, "segmentation": []}])
    with pytest.raises(InputError, match="has the unknown category 9"):
        load(root).examples("train")
    (root / "train/x.png").unlink()
    file = root / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(InputError, match="names the missing image"):
        load(root).examples("train")
    file.write_text(json.dumps({**content, "annotations": [{"image_id": 42, "category_id": 7}]}))
    with pytest.raises(InputError, match="must have category_id, image_id, segmentation in each entry of annotations"):
        load(root)


def test_folders_that_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"must have masks with the names of their images, .*; it has neither\."):
        load(tmp_path)
    with pytest.raises(InputError, match=r"after 'folder:', for which --data=PATH is short; got '/no"):
        load("/nowhere")
    with pytest.raises(InputError, match=r"must have lists of images ImageSets/Segmentation/\*.txt"):
        load(tmp_path, "voc")
    with pytest.raises(InputError, match="dataset must be of folder, voc"):
        load(tmp_path, "idx")
    root = sets.two_folders(tmp_path / "set")
    (root / "classes.txt").write_text("red\nred\n")
    with pytest.raises(InputError, match="must name each class once; it names 'red' twice"):
        load(root)
    for path in (root / "masks").rglob("*.png"):
        path.unlink()
    with pytest.raises(InputError, match=r"; it has 5 images such as 'images/train/x0.png'\."):
        load(root)


def test_an_empty_split_is_named(tmp_path, caplog):
    root = sets.two_folders(tmp_path)
    for path in (root / "masks/val").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="eval_split must be one of 'train'; got 'val'"):
        load(root).examples("val", "eval_split")
    assert caplog.records[0].getMessage() == f"{root}: left out folders: 1 ('images/val')"
