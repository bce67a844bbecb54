"""Images and masks as people's tools lay them out: the pairs that are found, and what is said of other folders."""

import logging
import unicodedata

import numpy as np
import pytest
from PIL import Image

from keras_resnet.errors import InputError
from keras_resnet.segmentation.data import sources
from keras_resnet.segmentation.data.labels import LabelOptions
from keras_resnet.segmentation.data.survey import check_class_names, check_two_classes, survey
from tests.segmentation.sets import save, scene

IMAGE, LABEL = scene(0)
COLORS = np.uint8([[0, 0, 0], [128, 0, 0], [0, 128, 0], *[[255, 255, 255]] * 253])
RGB = COLORS[LABEL]


def load(root, kind="folder", **options):
    return sources.load(f"{kind}:{root}", options=LabelOptions(**options))


def label_of(dataset, split="train"):
    return dataset.examples(split)[0].read_label()


def write(root, files):
    """Write texts, arrays and images to the files of a folder; return the folder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        elif isinstance(content, Image.Image):
            content.save(path)
        else:
            save(path, content)
    return root


# Layouts

LAYOUTS = {
    "Roboflow": ("train/a_jpg.rf.1.jpg", "train/a_jpg.rf.1_mask.png", "train"),
    "DeepGlobe": ("train/7_sat.jpg", "train/7_mask.png", "train"),
    "CamVid of Kaggle": ("val/1.png", "val_labels/1_L.png", "val"),
    "CamVid as published": ("701_StillsRaw_full/1.png", "LabeledApproved_full/1_L.png", "train"),
    "CamVid of fast.ai": ("images/1.png", "labels/1_P.png", "train"),
    "SegNet": ("train/1.png", "trainannot/1.png", "train"),
    "Oxford pets": ("images/Cat_1.jpg", "annotations/trimaps/Cat_1.png", "train"),
    "Carvana": ("train/a_01.jpg", "train_masks/a_01_mask.gif", "train"),
    "LoveDA": ("Train/Urban/images_png/1.png", "Train/Urban/masks_png/1.png", "Train"),
    "mmsegmentation": ("img_dir/train/1.jpg", "ann_dir/train/1.png", "train"),
    "INRIA": ("train/images/1.png", "train/gt/1.png", "train"),
    "UAVid": ("uavid_train/seq1/Images/1.png", "uavid_train/seq1/Labels/1.png", "train"),
    "ISIC": (
        "ISIC2018_Task1-2_Training_Input/I_1.jpg",
        "ISIC2018_Task1_Training_GroundTruth/I_1_segmentation.png",
        "Training",
    ),
    "BDD100K": ("images/10k/val/1.jpg", "labels/sem_seg/masks/val/1.png", "val"),
    "Supervisely": ("train/img/1.jpg", "train/masks_machine/1.png", "train"),
    "labelme2voc": ("JPEGImages/1.jpg", "SegmentationClass/1.png", "train"),
    "train_images and train_masks": ("train_images/1.jpg", "train_masks/1.png", "train"),
    "folder of a folder": ("archive/data/images/val/1.jpg", "archive/data/masks/val/1.png", "val"),
    "folder without splits": ("data/images/1.jpg", "data/masks/1.png", "train"),
    "one folder": ("1.jpg", "1_mask.png", "train"),
    "one folder and name": ("train/1.jpg", "train/1.png", "train"),
    "other words": ("Original/1.jpg", "Ground Truth/1.png", "train"),
    "folds": ("images/fold 1/1.jpg", "masks/fold 1/1.png", "train"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, tmp_path):
    image, mask, split = LAYOUTS[layout]
    write(tmp_path, {image: np.uint8(IMAGE), mask: LABEL})
    (found,) = (dataset := load(tmp_path)).examples(split)
    assert (found.path, found.mask) == (str(tmp_path / image), str(tmp_path / mask))
    assert dataset.info.splits == {split: 1}


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a", "a_Mask"),
        ("a", "a-mask"),
        ("a", "mask_a"),
        ("a", "a.jpg"),
        ("a_image", "a_mask"),
        ("img_7", "label_7"),
        ("IMG_7", "img_7"),
        ("über", unicodedata.normalize("NFD", "über")),
        ("a_leftImg8bit", "a_gtFine_labelTrainIds"),
        ("Straße ä 1", "Straße ä 1"),
        ("a.b", "a.b_L"),
    ],
)
def test_names(image, mask, tmp_path):
    write(tmp_path, {f"images/train/{image}.jpg": IMAGE, f"masks/train/{mask}.png": LABEL})
    write(tmp_path, {"images/train/other.jpg": IMAGE, "masks/train/other.png": LABEL})
    found = {example.path: example.mask for example in load(tmp_path).examples("train")}
    assert found[f"{tmp_path}/images/train/{image}.jpg"] == f"{tmp_path}/masks/train/{mask}.png"


def test_similar_names_are_not_confused(tmp_path):
    names = ("cat", "cat_L", "cat_mask", "Cat", "image_cat")
    for name in names:
        write(tmp_path, {f"images/{name}.jpg": IMAGE, f"masks/{name}.png": LABEL})
    found = load(tmp_path).examples("train")
    assert len(found) == len(names)
    assert all(example.path.replace("images", "masks").replace(".jpg", ".png") == example.mask for example in found)


def test_a_mask_of_another_split_or_folder_is_not_taken(tmp_path):
    write(tmp_path, {"images/train/1.jpg": IMAGE, "masks/train/1.png": LABEL})
    write(tmp_path, {"images/test/2.jpg": IMAGE, "masks/train/2.png": LABEL})
    write(tmp_path, {"images/train/A/3.jpg": IMAGE, "masks/train/B/3.png": LABEL})
    assert load(tmp_path).info.splits == {"train": 1}


def test_of_several_masks_that_with_the_name_of_the_image_is_used(tmp_path, caplog):
    for name in ("masks_machine/1", "masks_human/1", "masks_machine/1_mask", "masks_machine/1_color"):
        write(tmp_path, {f"train/{name}.png": LABEL})
    write(tmp_path, {"train/img/1.jpg": IMAGE, "train/img/1.png": IMAGE, "train/ann/1.jpg.json": "{}"})
    (example,) = load(tmp_path).examples("train")
    assert (example.path[-12:], example.mask) == ("in/img/1.jpg", f"{tmp_path}/train/masks_machine/1.png")
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == (
        f"{tmp_path}: left out images without a mask: 1 ('train/img/1.png'); masks without an image: 2 "
        "('train/masks_machine/1_color.png', 'train/masks_machine/1_mask.png'); folders: 1 ('train/masks_human')"
    )


@pytest.mark.parametrize(
    ("lists", "splits"),
    [
        ({"valid.txt": "b.jpg\n"}, {"train": ["a", "c d"], "valid": ["b"]}),
        ({"splits/train.txt": "a\nc d\n", "splits/val.txt": "images/b.jpg\n"}, {"train": ["a", "c d"], "val": ["b"]}),
        ({"annotations/trainval.txt": "# pets\nb 1 1 1\na 1 1 2\n"}, {"trainval": ["b", "a"]}),
        ({"classes.txt": "x\ny\nz\n", "notes.txt": "a\n"}, {"train": ["a", "b", "c d"]}),
    ],
)
def test_lists_of_splits(lists, splits, tmp_path):
    for name in ("a", "b", "c d"):
        write(tmp_path, {f"images/{name}.jpg": IMAGE, f"masks/{name}.png": LABEL})
    dataset = load(write(tmp_path, lists))
    assert {split: [example.name for example in dataset.examples(split)] for split in dataset.info.splits} == splits


def test_names_of_a_list_without_an_image_are_counted(tmp_path, caplog):
    write(tmp_path, {"images/a.jpg": IMAGE, "masks/a.png": LABEL, "train.txt": "a\nb\nc\n"})
    assert load(tmp_path).info.splits == {"train": 1}
    assert caplog.records[0].getMessage() == f"{tmp_path}: no image and mask of 'b' of train.txt, 'c' of train.txt"


@pytest.mark.parametrize(
    ("file", "name"), [("a.txt", "labels/train/a.txt"), ("a.json", "a.json"), ("a.npy", "masks/train/a.npy")]
)
def test_annotations_that_are_no_masks_are_named(file, name, tmp_path):
    write(tmp_path, {"images/train/a.jpg": IMAGE, name: "0 0.1 0.1 0.5 0.1 0.5 0.5\n"})
    with pytest.raises(InputError, match=rf"it has 1 image such as 'images/train/a.jpg'; '{name}' is no mask: export"):
        load(tmp_path)


def test_a_missing_split_is_answered_with_parts_of_another(tmp_path):
    write(tmp_path, {"images/a.jpg": IMAGE, "masks/a.png": LABEL})
    with pytest.raises(InputError, match=r"got 'val'\. --train_split='train\[:80%\]' --eval_split='train\[80%:\]' div"):
        load(tmp_path).examples("val", "eval_split")


def test_the_layout_of_voc_is_found_in_an_archive(tmp_path):
    write(tmp_path, {f"VOCdevkit/VOC2012/{name}": LABEL for name in ("JPEGImages/a.png", "SegmentationClass/a.png")})
    write(tmp_path, {"VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt": "a\n"})
    for kind in ("folder", "voc"):
        assert load(tmp_path, kind).info.name == f"voc:{tmp_path}/VOCdevkit/VOC2012"


def test_other_data_sets_in_a_folder_are_left_out(tmp_path, caplog):
    for place in (".", "old", "VOCdevkit/VOC2012"):
        write(tmp_path / place, {"images/train/a.jpg": IMAGE, "masks/train/a.png": LABEL})
    write(tmp_path / "VOCdevkit/VOC2012", {"ImageSets/Segmentation/train.txt": "a\n"})
    (example,) = load(tmp_path).examples("train")
    assert example.path == f"{tmp_path}/images/train/a.jpg"
    assert "'VOCdevkit/VOC2012/images/train', 'VOCdevkit/VOC2012/masks/train', 'old/images/train'" in caplog.text


def test_only_images_to_convert_are_in_the_command(tmp_path):
    write(tmp_path, {"images/a.tif": IMAGE, "masks/a.tif": LABEL})
    with pytest.raises(InputError, match=rf"find '{tmp_path}/images' -name '\*\.tif' -exec mogrify"):
        load(tmp_path)


# Classes


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "a\nb\nc\n"),
        ("class_names.txt", "a\nb\nc"),
        ("labels.txt", "__ignore__\na\nb\nc\n"),
        ("codes.txt", "a\r\nb\r\nc\r\n"),
        ("train/_classes.csv", "Pixel Value, Class\n0, a\n1, b\n2, c\n"),
    ],
)
def test_files_of_names(file, text, tmp_path):
    write(tmp_path, {"train/x.jpg": IMAGE, "train/x_mask.png": LABEL, file: text})
    assert load(tmp_path).info.class_names == ("a", "b", "c")


def test_a_damaged_table_of_roboflow(tmp_path):
    write(tmp_path, {"train/x.jpg": IMAGE, "train/x_mask.png": LABEL, "train/_classes.csv": "Value, Class\n3, a\n"})
    with pytest.raises(InputError, match=r"_classes.csv' must have a header and the lines 0, NAME"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("class_dict.csv", "\ufeffname, r, g, b\r\na, 0, 0, 0\r\nb, 128, 0, 0\r\nc, 0, 128, 0\r\nvoid,255,255,255"),
        ("class_dict.csv", "class_index,name,r,g,b\n0,a,0,0,0\n1,b,128,0,0\n2,c,0,128,0\n3,void,255,255,255\n"),
        ("label_colors.txt", "a #000000\nb #800000\nc #008000\nvoid #FFFFFF\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\na:0,0,0::\nb:128,0,0::\nc:0,128,0::\nvoid:255,255,255::\n"),
    ],
    ids=["header and spaces", "numbered", "hexadecimal", "CVAT"],
)
@pytest.mark.parametrize("kind", ["colors", "palette", "values", "16-bit values"])
def test_tables_of_colors(file, text, kind, tmp_path):
    """The masks have the colors, or the numbers of the lines: void is 3, or 255."""
    masks = {"colors": RGB, "values": LABEL, "16-bit values": LABEL.astype("uint16")}
    mask = Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE) if kind == "palette" else masks[kind]
    write(tmp_path, {"images/x.jpg": IMAGE, "masks/x.png": mask, file: text})
    dataset = load(tmp_path)
    assert dataset.info.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(label_of(dataset), LABEL)
    if kind == "values":
        save(tmp_path / "masks/x.png", np.where(LABEL == 255, 3, LABEL).astype("uint8"))
        np.testing.assert_array_equal(label_of(load(tmp_path)), LABEL)
        reordered = label_of(load(tmp_path, class_names=("c", "a")))
        np.testing.assert_array_equal(reordered, np.uint8([1, 255, 0, *[255] * 253])[LABEL])


def test_the_colors_of_cvat_in_the_layout_of_voc(tmp_path):
    write(tmp_path, {"JPEGImages/x.jpg": IMAGE, "SegmentationClass/x.png": RGB})
    write(tmp_path, {"ImageSets/Segmentation/default.txt": "x\n", "labelmap.txt": "# l\na:0,0,0::\nb:128,0,0::\n"})
    with open(tmp_path / "labelmap.txt", "a") as file:
        file.write("c:0,128,0::\nignore:255,255,255::\n")
    dataset = load(tmp_path)
    assert (dataset.info.class_names, dataset.info.colors) == (("a", "b", "c"), ("#000000", "#800000", "#008000"))
    np.testing.assert_array_equal(label_of(dataset, "default"), LABEL)


# Values


def masks_of(root, *masks):
    for number, mask in enumerate(masks):
        write(root, {f"images/{number}.png": np.zeros((*mask.shape[:2], 3), "uint8"), f"masks/{number}.png": mask})
    return root


def surveyed(root, **options):
    dataset = load(root, **options)
    check_class_names(dataset.info.class_names)
    found = survey(dataset.examples("train"), dataset.info.class_names, "train")
    check_two_classes(found, dataset.info.class_names, "train")


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ((0, 128, 255), {}, "have the values 0, 128, 255: give .* --label_values=0,128,255, or the names .* 0 to 128"),
        ((0, 1, 9), {}, r"--label_values=0,1,9, or the names of all from 0 to 9, with --class_names or classes\.txt"),
        ((0, 1, 2), {"ignore_labels": (0,)}, "such as --label_values=1,2, or"),
        ((0, 255), {}, "have no values but 0 and 255, and 255 is ignored; --label_values=0,255 makes it a class"),
        ((1, 2, 3), {"class_names": ("a", "b", "c")}, "its values are 1, 2, 3, allowed are 0 to 2 for the classes"),
        ((0, 128), {"label_values": (0, 255)}, "its values are 0, 128, allowed are 0, 255. --label_values gives"),
        ((0, 0), {}, "must have at least two classes to train on, the background included; it has"),
        (
            (0, 1),
            {"class_names": ("a",)},
            "must have at least two classes to train on, the background included; it has",
        ),
        ((0, 1), {"class_names": ("a", "b"), "ignore_labels": (0,)}, "--label_values=1"),
        ((0, 0), {"class_names": ("a", "b")}, "must have pixels of two classes; all are of the class 'a'"),
        ((0, 1, 65535), {"class_names": ("a", "b")}, "has the value 65535"),
    ],
)
def test_values_that_are_no_classes(values, options, message, tmp_path):
    root = masks_of(tmp_path, np.array([values], "uint16" if max(values) > 255 else "uint8"))
    with pytest.raises(InputError, match=message):
        surveyed(root, **options)


def test_classes_are_those_of_all_splits(tmp_path):
    write(tmp_path, {"images/train/a.png": IMAGE, "masks/train/a.png": np.minimum(LABEL, 1)})
    write(tmp_path, {"images/val/a.png": IMAGE, "masks/val/a.png": LABEL})
    assert load(tmp_path).info.class_names == ("0", "1", "2")


def test_values_that_begin_with_1_are_warned_of(tmp_path, caplog):
    assert len(load(masks_of(tmp_path, np.uint8([[1, 2, 3, 255]]))).info.class_names) == 4
    assert caplog.records[-1].getMessage() == (
        "no mask has the value 0, the first class; --label_values=1,2,3 leaves it out"
    )


def test_floating_point(tmp_path):
    write(tmp_path, {"images/a.png": IMAGE, "masks/a.tif": LABEL.astype("float32")})
    np.testing.assert_array_equal(label_of(load(tmp_path, class_names=("a", "b", "c"))), LABEL)
    save(tmp_path / "masks/a.tif", LABEL / np.float32(2))
    with pytest.raises(InputError, match=r"a.tif' must have whole numbers; it has fractions"):
        load(tmp_path)


def test_palettes_that_differ_are_warned_of(tmp_path, caplog):
    masks_of(tmp_path, LABEL, LABEL)
    for number, palette in enumerate((COLORS, COLORS)):
        image = Image.fromarray(LABEL)
        image.putpalette(palette.tobytes())
        image.save(tmp_path / f"masks/{number}.png")
    load(tmp_path)
    assert not caplog.records
    image.putpalette(COLORS[::-1].tobytes())
    image.save(tmp_path / "masks/1.png")
    load(tmp_path)
    (record,) = caplog.records
    assert "the value 0 has the color 0,0,0 in mask" in record.getMessage()
    assert "0.png' and 255,255,255 in" in record.getMessage()


def test_colors_without_a_table_are_listed(tmp_path):
    with pytest.raises(InputError, match="for each class of 0,0,0; 0,128,0; 128,0,0; 255,255,255"):
        load(masks_of(tmp_path, RGB))


@pytest.mark.parametrize(("content", "reason"), [(b"", "is empty"), (b"<html>", "is no image")])
@pytest.mark.parametrize("kind", ["images", "masks"])
def test_files_that_are_no_images(content, reason, kind, tmp_path, caplog):
    masks_of(tmp_path, LABEL, LABEL)
    (tmp_path / kind / "1.png").write_bytes(content)
    with pytest.raises(InputError, match=rf"(image|mask) '.*{kind}/1.png' {reason}\."):
        survey(load(tmp_path, class_names=("a", "b", "c")).examples("train"), ("a", "b", "c"), "train")


def test_damaged_images_count_against_max_broken_before_training_too(tmp_path, caplog):
    masks_of(tmp_path, *[LABEL] * 4)
    examples = load(tmp_path).examples("train")
    for number in (1, 3):
        (tmp_path / f"images/{number}.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        found = survey(examples, ("a", "b", "c"), "train", max_broken=0.5)
    assert found.pixels.sum() + found.ignored == 4 * LABEL.size
    assert len(caplog.records) == 2
    with pytest.raises(InputError, match=r"2 files cannot be decoded, more than max_broken allows \(1\)"):
        survey(examples, ("a", "b", "c"), "train", max_broken=0.25)


@pytest.mark.parametrize(("name", "near"), [("vocc:/x", "voc"), ("oxford_pets", "oxford_iiit_pet")])
def test_misspelled_data_sets(name, near):
    with pytest.raises(InputError, match=rf"got '{name}' \(did you mean '{near}'\?\)"):
        sources.load(name)
