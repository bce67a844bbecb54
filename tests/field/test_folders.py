"""Folders of images as people have them: what belongs to the data set, what does not, and what is refused."""

import io
import logging
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from keras_resnet.classification import train
from keras_resnet.classification.config import ClassifierConfig
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.data import folders, pipeline, sources
from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.data.transforms import EvalTransform
from keras_resnet.detection.data import sources as detection
from keras_resnet.evaluation import metrics, report
from keras_resnet.experiment import names
from keras_resnet.ops import codecs, formats
from keras_resnet.serving import report as tflite_report
from tests.conftest import KERAS_2
from tests.detection.data.folders import voc_folder


def encoded(format, size=(6, 5)):
    content = io.BytesIO()
    Image.fromarray(np.full((*size, 3), 90, "uint8")).save(content, format)
    return content.getvalue()


PHOTO, TEXT = encoded("JPEG"), b"some text, no image"
TWO_CLASSES = {"cat/1.jpg": PHOTO, "cat/2.jpg": PHOTO, "dog/1.jpg": PHOTO}


def write(root, files):
    """Write a dictionary of relative paths and contents; None makes an empty folder."""
    for name, content in files.items():
        path = root / name
        (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
        if content is not None:
            path.write_bytes(content)
    return f"folder:{root}"


def below(prefix, files=TWO_CLASSES):
    return {f"{prefix}/{name}": content for name, content in files.items()}


def images_of(dataset, split="train"):
    """Class -> names of its files, relative to the class folder."""
    examples, names = dataset.examples(split), dataset.info.class_names
    found = {name: set() for name in names}
    for path, label in zip(examples.paths, examples.labels, strict=True):
        found[names[label]].add(path.split(f"{os.sep}{names[label]}{os.sep}")[-1])
    return found


CLUTTER = {
    "notebook checkpoints, empty": {".ipynb_checkpoints": None},
    "notebook checkpoints with copies": below(".ipynb_checkpoints", {"1-checkpoint.jpg": PHOTO}),
    "notebook checkpoints in a class": {"cat/.ipynb_checkpoints/1-checkpoint.jpg": PHOTO},
    "ZIP of macOS": {"__MACOSX/cat/._1.jpg": TEXT, "__MACOSX/._cat": TEXT},
    "AppleDouble": {"cat/._1.jpg": TEXT, "._cat": TEXT},
    "Windows": {"cat/Thumbs.db": TEXT, "desktop.ini": TEXT, "$RECYCLE.BIN/S-1/$R1.jpg": PHOTO},
    "Windows, other case": {"cat/thumbs.DB": TEXT, "Desktop.INI": TEXT, "System Volume Information": None},
    "macOS": {".DS_Store": TEXT, "cat/.DS_Store": TEXT, ".Trashes/1.jpg": PHOTO},
    "Synology": {"@eaDir/cat/1.jpg": PHOTO, "cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg": PHOTO, "#recycle/1.jpg": PHOTO},
    "QNAP": {"@Recycle/1.jpg": PHOTO, "cat/@Recently-Snapshot/1.jpg": PHOTO},
    "Linux": {"lost+found": None, ".directory": TEXT, ".Trash-1000/files/1.jpg": PHOTO},
    "git": {".git/objects/1": TEXT, ".gitattributes": TEXT, "cat/.gitkeep": b""},
    "a finished run": {"run/config.json": TEXT, "run/metrics.jsonl": TEXT, "run/curves.png": encoded("PNG")},
    "a run that begins": {"runs/new/.lock": TEXT},
    "runs": {"runs/a/config.json": TEXT, "runs/a/checkpoints/x.index": TEXT, "runs/a/curves.png": encoded("PNG")},
    "Python": {"__pycache__/a.pyc": TEXT, ".venv/lib/logo.png": encoded("PNG")},
}


@pytest.mark.parametrize("extra", CLUTTER.values(), ids=CLUTTER)
@pytest.mark.parametrize("split", ["", "train/"], ids=["plain", "splits"])
def test_what_systems_leave_behind_is_left_out_in_silence(extra, split, tmp_path, caplog):
    files = {f"{split}{name}": content for name, content in {**TWO_CLASSES, **extra}.items()}
    dataset = sources.load(write(tmp_path, files))
    assert images_of(dataset) == {"cat": {"1.jpg", "2.jpg"}, "dog": {"1.jpg"}}
    assert not caplog.records


@pytest.mark.parametrize(
    "name", ["1.jpg", "1.JPG", "1.jfif", "1.jpe", "1.JPEG_", "1", "1.dat", "1.tif", "photo of 2021.11", "a.png"]
)
def test_content_decides_and_not_the_suffix(name, tmp_path, caplog):
    dataset = sources.load(write(tmp_path, {"cat/1.jpg": PHOTO, f"dog/{name}": PHOTO}))
    assert images_of(dataset)["dog"] == {name}
    assert not caplog.records


READABLE = ["JPEG", "PNG", "GIF", "BMP"] + ([] if KERAS_2 else ["WEBP"])


@pytest.mark.parametrize("format", READABLE)
def test_all_readable_formats_called_jpg(format, tmp_path):
    dataset = sources.load(write(tmp_path, {"cat/1.jpg": PHOTO, "dog/1.jpg": encoded(format)}))
    assert dataset.info.splits == {"train": 2}


def box(brand, *others):
    content = b"ftyp" + brand + b"\x00\x00\x00\x00" + b"".join(others)
    return (len(content) + 4).to_bytes(4, "big") + content + bytes(100)


UNREADABLE = {
    "TIFF": encoded("TIFF"),
    "TIFF of Motorola": b"MM\x00*" + bytes(100),
    "AVIF": box(b"avif"),
    "AVIF that is a HEIF too": box(b"mif1", b"mif1", b"avif"),
    "HEIC": box(b"heic", b"mif1", b"heic"),
    "JPEG XL": b"\xff\x0a" + bytes(100),
    "JPEG 2000": encoded("JPEG2000"),
    "PNM": encoded("PPM"),
    "PNM with a comment": b"P5 # gray\n92 112\n255\n" + bytes(92 * 112),
    "DICOM": bytes(128) + b"DICM" + bytes(100),
    "Photoshop": b"8BPS" + bytes(100),
}


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("suffix", [".tif", ".jpg", ""])
def test_other_image_formats_are_refused_by_name_and_with_a_way_out(name, suffix, tmp_path):
    """Of ten dogs, nine could not be read: training on the tenth is not what the user asked for."""
    files = {f"dog/{number}{suffix}": UNREADABLE[name] for number in range(9)}
    kind = " ".join(word for word in name.split() if word[0].isupper() or word.isdigit()).removesuffix(" Motorola")
    kind = kind.removesuffix(" HEIF")
    with pytest.raises(ValueError, match=rf"has 9 {kind} files, such as 'dog.0.*must be JPEG, .* convert them,"):
        sources.load(write(tmp_path, {"cat/1.jpg": PHOTO, "dog/9.jpg": PHOTO, **files}))


@pytest.mark.parametrize(
    "content",
    [b"", b"BMW is a car", b"Phone numbers", box(b"isom", b"mp42"), b"<svg/>", b"RIFF1234WAVE", b"P6", b"\x93NUMPY"],
)
def test_other_files_are_no_images(content):
    assert not formats.of(content)


def test_what_is_left_out_is_counted_and_named_in_one_line(tmp_path, caplog):
    files = {f"cat/{name}": TEXT for name in ("a.txt", "b.csv", "c.json", "d.xml")}
    stray = {"cover.png": encoded("PNG"), "README.md": TEXT}
    with caplog.at_level(logging.WARNING):
        sources.load(write(tmp_path, {**TWO_CLASSES, **files, **stray}))
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == (
        f"{tmp_path}: left out files that are not images: 5 ('README.md', 'cat/a.txt', 'cat/b.csv' and 2 more); "
        "images in no class folder: 1 ('cover.png')"
    )


SPLITS = {
    "usual": ("train", "val", "test"),
    "Keras": ("train", "validation", "test"),
    "Roboflow": ("train", "valid", "test"),
    "capitals": ("Training", "Validation", "Testing"),
    "shouted": ("TRAIN", "VAL", "TEST"),
}


@pytest.mark.parametrize("names", SPLITS.values(), ids=SPLITS)
def test_names_of_splits(names, tmp_path):
    files = {name: content for split in names for name, content in below(split).items()}
    dataset = sources.load(write(tmp_path, files))
    assert dataset.info.splits == {"train": 3, "val": 3, "test": 3}
    assert dataset.info.class_names == ("cat", "dog")
    for name in ("val", "valid", "validation", names[1]):
        assert dataset.count(f"{name}[:2]") == 2
    assert names[1] in dataset.examples("val").paths[0]


LAYOUTS = {
    "a class called train": ({"train/1.jpg": PHOTO, "car/1.jpg": PHOTO, "bus/1.jpg": PHOTO}, {"train": 3}),
    "classes called test and valid": ({"test/1.jpg": PHOTO, "valid/1.jpg": PHOTO, "car/1.jpg": PHOTO}, {"train": 3}),
    "a test split only": (below("test"), {"test": 3}),
    "Tiny ImageNet": ({"train/n01/images/1.JPEG": PHOTO, "train/n02/images/1.JPEG": PHOTO}, {"train": 2}),
    "one class in parts": ({"cat/1.jpg": PHOTO, "dog/poodle/1.jpg": PHOTO, "dog/pug/1.jpg": PHOTO}, {"train": 3}),
    "an unlabeled test split": ({**below("train"), "test/1.jpg": PHOTO}, {"train": 3}),
    "folders next to the splits": ({**below("train"), **below("test"), "labels/a.txt": TEXT}, {"train": 3, "test": 3}),
}


@pytest.mark.parametrize(("files", "splits"), LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(files, splits, tmp_path):
    assert sources.load(write(tmp_path, files)).info.splits == splits


def test_folders_that_are_left_out_are_named(tmp_path, caplog):
    sources.load(write(tmp_path, {**below("train"), "test/1.jpg": PHOTO, "labels/a.txt": TEXT}))
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: left out images in no class folder: 1 ('test/1.jpg'); folders: 1 ('labels')"
    ]


REFUSED = {
    "nothing": ({}, "must have one subfolder for each class; it has none"),
    "images in the root": ({"1.jpg": PHOTO, "2.jpg": PHOTO}, "has 2 images outside of any; move the images of each"),
    "images in the split": (below("train", {"1.jpg": PHOTO}), "has 1 image outside of any; move the images of each"),
    "one level too deep": (below("archive"), "only hold folders with images, .*such as folder:.*/archive, or rename"),
    "two levels too deep": (below("archive/data"), r"one class folder, 'archive'; did you mean folder:.*/data\?"),
    "splits in an archive": ({**below("a/train"), **below("a/test")}, "such as 'a/test' and 'a/train'.*folder:.*/a,"),
    "unknown names of splits": ({**below("fold1"), **below("fold2")}, "such as 'fold1/cat' and 'fold1/dog'"),
    "a class too deep in a split": (below("train/images"), "such as 'images/cat' and 'images/dog'"),
    "splits in the classes": (
        {f"{name}/{split}/1.jpg": PHOTO for name in ("cat", "dog") for split in ("train", "Valid")},
        r"the splits above the classes; it has 'cat/Valid' and 'cat/train'. Move .* 'cat/Valid' to 'Valid/cat'\.",
    ),
    "a split twice in an archive, as of Kaggle": (
        {**below("seg_train/seg_train"), **below("seg_test/seg_test"), "seg_pred/seg_pred/1.jpg": PHOTO},
        "only hold folders with images, such as 'seg_test/seg_test/cat' and .* such as folder:.*/seg_test/seg_test, or",
    ),
    "test has another class": ({**below("train"), "test/bird/1.jpg": PHOTO}, r"test' has classes \['bird'\] that"),
    "test has another case": ({**below("train"), "test/Dog/1.jpg": PHOTO}, r"does not have \(did you mean 'dog'\?\)"),
    "val lacks a class": ({**below("train"), "val/cat/1.jpg": PHOTO}, "class folder '.*val/dog' must hold images"),
    "two names of one split": ({**below("train"), **below("val"), **below("valid")}, r"it has \['val', 'valid'\]"),
    "an empty class": ({**TWO_CLASSES, "bird": None}, "class folder '.*bird' must hold images"),
    "a class of two lines": ({**TWO_CLASSES, "a\nb/1.jpg": PHOTO}, r"without line breaks, .*; rename 'a\\nb'\."),
    "a class from a list of Windows": ({**below("train", {"cat\r/1.jpg": PHOTO})}, r"rename 'cat\\r'\."),
    "a class of text": ({**TWO_CLASSES, "bird/a.txt": TEXT}, r"bird' must hold images \(JPEG.*\); it has 1 other file"),
    "a class of checkpoints": ({**TWO_CLASSES, "bird/.ipynb_checkpoints/1.jpg": PHOTO}, "bird' must hold images"),
}


@pytest.mark.parametrize(("files", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_way_out(files, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        sources.load(write(tmp_path, files))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("split", ["", "train/"])
def test_training_refuses_one_class(split, tmp_path):
    """Evaluation does not: the images of one of a network's classes have an error too."""
    name = write(tmp_path, {f"{split}cat/1.jpg": PHOTO})
    assert sources.load(name).info.class_names == ("cat",)
    with pytest.raises(ValueError, match=rf"dataset must have at least two classes; '{name}' has \['cat'\]"):
        train.train(ClassifierConfig(dataset=name), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_link_to_the_folder_that_contains_it(tmp_path):
    name = write(tmp_path, TWO_CLASSES)
    (tmp_path / "cat" / "loop").symlink_to(tmp_path / "cat")
    assert sources.load(name).info.splits == {"train": 3}


def test_one_class_spelled_by_two_systems(tmp_path):
    """macOS decomposes letters in the names of files."""
    names = [unicodedata.normalize(form, "r\u00f6nt\u0131") for form in ("NFC", "NFD")]
    write(
        tmp_path / "both", {f"{split}/{name}/1.jpg": PHOTO for split, name in zip(("train", "val"), names, strict=True)}
    )
    write(tmp_path / "both", {"train/b/1.jpg": PHOTO, "val/b/1.jpg": PHOTO})
    dataset = sources.load(f"folder:{tmp_path / 'both'}")
    assert (dataset.info.class_names, dataset.info.splits) == (("b", names[0]), {"train": 2, "val": 2})
    name = write(tmp_path / "twice", {f"{name}/1.jpg": PHOTO for name in names})
    with pytest.raises(ValueError, match=r"has two folders of the name .*, spelled with other bytes"):
        sources.load(name)


@pytest.mark.parametrize("path", [b"caf\xe9/1.jpg", b"cat/caf\xe9.jpg"])
def test_names_in_another_encoding(path, tmp_path):
    name = write(tmp_path, TWO_CLASSES)
    file = os.path.join(os.fsencode(tmp_path), path)
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with open(file, "wb") as handle:
        handle.write(PHOTO)
    with pytest.raises(ValueError, match=r"names of files must be UTF-8; rename b'caf\\xe9"):
        sources.load(name)


SIMILAR = {
    "case": ("Cat", "cat"),
    "a space at the end": ("cat ", "cat"),
    "underscores": ("red_fox", "red fox"),
}


@pytest.mark.parametrize("pair", SIMILAR.values(), ids=SIMILAR)
def test_classes_of_similar_names_are_warned_of(pair, tmp_path, caplog):
    classes = (*pair, "dog")
    sources.load(write(tmp_path / "classes", {f"{name}/1.jpg": PHOTO for name in classes}))
    voc = voc_folder(tmp_path / "voc", {str(at): [(name, (11, 21, 30, 40), 0)] for at, name in enumerate(classes)})
    detection.load(f"folder:{voc}", class_names=classes)
    lines = [record.getMessage() for record in caplog.records]
    first, second = map(repr, sorted(pair))
    end = f"classes with similar names are different classes: {first} and {second}"
    assert lines[0] == f"{tmp_path / 'classes'}: {end}"
    assert "similar names" in lines[1]
    assert len(lines) == 2


def test_a_pipe_is_not_waited_for(tmp_path):
    name = write(tmp_path, TWO_CLASSES)
    os.mkfifo(tmp_path / "cat" / "pipe.jpg")
    assert sources.load(name).info.splits == {"train": 3}


@pytest.mark.parametrize("archive", ["photos.zip", "photos.tar.gz", "photo.jpg"])
def test_an_archive_instead_of_a_folder(archive, tmp_path):
    (tmp_path / archive).write_bytes(b"PK")
    message = "it is a file, and an archive has to be unpacked first"
    for load in (sources.load, detection.load, names.check_dataset):
        with pytest.raises(ValueError, match=message):
            load(f"folder:{tmp_path / archive}")


def test_class_folders_that_are_links(tmp_path):
    write(tmp_path / "store", TWO_CLASSES)
    (tmp_path / "data").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "store" / name)
    assert sources.load(f"folder:{tmp_path / 'data'}").info.splits == {"train": 3}


def test_images_of_any_folder(tmp_path, caplog):
    write(tmp_path, {"b.JPG": PHOTO, "a/1": PHOTO, ".hidden.jpg": PHOTO, "notes.txt": TEXT, "Thumbs.db": TEXT})
    assert folders.images(tmp_path) == [str(tmp_path / "a/1"), str(tmp_path / "b.JPG")]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: left out files that are not images: 1 ('notes.txt')"
    ]
    assert folders.expand(["x.jpg", str(tmp_path / "a")]) == ["x.jpg", str(tmp_path / "a/1")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must hold images"):
        folders.images(tmp_path / "empty")


def test_a_run_has_the_absolute_path_of_its_folder(tmp_path, monkeypatch):
    write(tmp_path / "photos", TWO_CLASSES)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("folder:../photos", "folder:~/photos", f"folder:{tmp_path}/work/../photos/", "folder:$HOME/photos"):
        run = ClassifierRun(tmp_path, ClassifierConfig(dataset=name), sources.load(name).info)
        assert run.config.dataset == run.dataset_info.name == f"folder:{tmp_path}/photos"
    stored = {"name": "folder:../photos", "class_names": ["a"], "image_size": None, "splits": {}}
    assert DatasetInfo.from_dict(stored).name == f"folder:{tmp_path}/photos"
    assert DatasetInfo.from_dict({**stored, "name": "synthetic:8x8x3"}).name == "synthetic:8x8x3"


@pytest.mark.parametrize(
    ("name", "near"), [("foler:/x", "folder"), ("Folder:/x", "folder"), ("synthetc:8x8x2", "synthe")]
)
def test_misspelled_kinds_of_data_sets(name, near):
    with pytest.raises(ValueError, match=rf"dataset must be 'digits', .*; got '{name}' \(did you mean '{near}"):
        sources.load(name)


def test_damaged_images_of_the_evaluation_are_found_before_training(tmp_path, caplog):
    damaged = {"1.jpg": b"", "2.jpg": encoded("JPEG", (64, 64))[:-200], "3.jpg": b"<html>not found</html>"}
    dataset = sources.load(write(tmp_path, {**below("train"), **below("val"), **below("val/dog", damaged)}))
    message = (
        r"val/dog/1.jpg cannot be decoded as a JPEG.*image: it is empty; 3 of the 5 images of split 'valid' cannot"
    )
    with pytest.raises(ValueError, match=message):
        pipeline.check_images(dataset, EvalTransform((4, 4), (0.0,) * 3, (1.0,) * 3, 4), "valid")
    assert not caplog.records


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", ": it is empty"), (UNREADABLE["TIFF"], ": it is a TIFF file"), (PHOTO, ""), (TEXT, "")],
)
def test_messages_say_what_a_file_is(content, reason, tmp_path):
    (tmp_path / "a").write_bytes(content)
    assert codecs.what_it_is(str(tmp_path / "a")) == reason


def test_damaged_images_of_training_stay_and_count_against_max_broken(tmp_path):
    files = {"cat/1.jpg": PHOTO, "dog/1.jpg": b"", "dog/2.jpg": b"<html>not found</html>"}
    assert sources.load(write(tmp_path, files)).info.splits == {"train": 3}


def test_training_describes_the_data_set(tmp_path):
    files = {**below("train", {"cat/1.jpg": PHOTO, "dog/1.jpg": PHOTO, "dog/2.jpg": PHOTO}), "val/cat/1.jpg": PHOTO}
    name = write(tmp_path, {**files, "val/dog": None})
    assert sources.load(name).describe() == f"{name}: 2 classes; train 3 images, val 1 image of 1 of them"
    assert sources.load("digits").describe() == "digits: 10 classes; train 1198 images, test 599 images"


@pytest.mark.parametrize(("classes", "shown"), [(2, False), (5, False), (6, True)])
def test_the_top_5_error_of_few_classes_is_left_out(classes, shown):
    labels = np.arange(classes)
    scores = np.eye(classes, dtype="float32")[::-1]
    result = metrics.evaluate(lambda x: scores, [(np.zeros((classes, 1)), labels)])
    assert ("top5_error" in result.numbers(), "top5_interval" in result.numbers()) == (shown, shown)
    assert ("top-5" in report.table([report.Row("net", "single", result)])) == shown
    row = tflite_report.Row.of("int8", scores, scores, labels, 1, [1.0])
    assert ("top-5" in tflite_report.table([row])) == shown
