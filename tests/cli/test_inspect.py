"""`keras-resnet inspect`: what it prints of each task's data, the faults it finds, and the contact sheet."""

import shutil

import numpy as np
import pytest
from PIL import Image

from keras_resnet.cli import main as cli
from tests.detection.data.folders import DOG, coco_folder, voc_folder
from tests.localization.sets import GOLDFISH, TENCH, ilsvrc


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def picture(path, value=0, size=(30, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, "uint8")).save(path)


def inspect(capsys, *flags, code=0):
    assert cli.main(["inspect", "--data=data", *flags]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_detection(tmp_path, capsys):
    content = {"a": [DOG], "b": [DOG, ("cat", (1, 1, 5, 5), 1)], "c": [("cat", (9, 9, 9, 9), 0)]}
    root = voc_folder(tmp_path / "data", content)
    damaged = root / "JPEGImages/b.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    out = inspect(capsys)
    assert "task: detection\n" in out
    assert "layout: PASCAL VOC (ImageSets/Main)" in out
    assert "splits: train 3 images with 3 boxes" in out
    assert "images: 60x80 (height x width), all 3" in out
    assert "difficult: 1 box" in out
    assert "| cat | 1 |\n| dog | 2 |" in out
    assert "dropped 1 box without an area inside the image, of c.jpg" in out
    assert "fault: 1 image cannot be decoded: 'JPEGImages/b.jpg'" in out
    assert f"next: keras-resnet train --task=detection --data={root} --weights=imagenet" in out
    sheet = np.asarray(Image.open("contact_sheet.png"))
    assert sheet.shape[1] > 2 * 320, "the two readable images side by side"
    assert (sheet == (0x3C, 0xB4, 0x4B)).all(-1).any(), "the box of the second class, dog"
    assert "out must be a file that does not exist yet" in inspect(capsys, code=1)


def test_masks_are_drawn(tmp_path, capsys):
    polygon = [[10, 20, 50, 20, 50, 50, 10, 50]]
    entry = {"image_id": 42, "category_id": 7, "bbox": [10, 20, 40, 30], "segmentation": polygon}
    coco_folder(tmp_path / "data", [entry])
    out = inspect(capsys, "--out=sheet/x.png")
    assert "also readable with --task=segmentation" in out
    assert "mask: 1 box" in out
    sheet = np.asarray(Image.open("sheet/x.png")).astype(int)
    painted = np.abs(sheet - np.array([0.45 * 0x3C, 0.45 * 0xB4, 0.45 * 0x4B])).max(-1) < 2
    assert painted.mean() > 0.1, "the black image is painted inside the mask"


def test_segmentation(tmp_path, capsys):
    picture(tmp_path / "data/images/train/a.png", 100)
    mask = np.zeros((30, 40), "uint8")
    mask[:, 20:] = 1
    (tmp_path / "data/masks/train").mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "data/masks/train/a.png")
    (tmp_path / "data/classes.txt").write_text("sky\nroad\nsea\n")
    out = inspect(capsys)
    assert "task: segmentation\n" in out
    assert "| sky | 600 |\n| road | 600 |\n| sea | 0 |" in out
    assert "fault: class 'sea' has no pixel" in out
    assert Image.open("contact_sheet.png").size[0] > 320


def test_localization(tmp_path, capsys):
    root = ilsvrc(tmp_path / "data")
    (root / f"ILSVRC/Data/CLS-LOC/train/{GOLDFISH}/{GOLDFISH}_2.JPEG").write_bytes(b"damaged")
    annotation = root / "ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000003.xml"
    annotation.write_text(annotation.read_text().replace("<ymax>39", "<ymax>62"))
    out = inspect(capsys)
    assert "task: localization (also readable with --task=detection)\n" in out
    assert "splits: train 2 images; val 3 images" in out
    assert f"| {TENCH} | 1 | 2 |\n| {GOLDFISH} | 1 | 1 |" in out
    assert "4 % to 75 % of its area, median 12 %" in out
    assert "blacklist: 1 image" in out
    assert "fault: 1 image cannot be decoded" in out
    assert "fault: 1 box with more than a pixel beyond the image" in out
    sheet = np.asarray(Image.open("contact_sheet.png"))
    assert (sheet == 255).all(-1).any(), "white boxes"


def test_detection_data_as_localization_data(tmp_path, capsys):
    voc_folder(tmp_path / "data", {"a": [DOG, ("cat", (1, 1, 5, 5), 0)], "b": []})
    out = inspect(capsys, "--task=localization")
    assert "layout: boxes; the largest has the class" in out
    assert "left out: 1 image without a box" in out
    assert "fault: 1 class without an image: cat" in out


def test_classification(tmp_path, capsys):
    for name in ("cat", "dog"):
        for number in range(3):
            picture(tmp_path / f"data/{name}/{number}.png", 100)
    (tmp_path / "data/dog/2.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    (tmp_path / "data/notes.doc").touch()
    out = inspect(capsys, "--pictures=3")
    assert "task: classification\n" in out
    assert "| cat | 3 |\n| dog | 3 |" in out
    assert "fault: 1 image cannot be decoded: 'dog/2.png'" in out


def test_folders_of_no_task(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    assert "data must be a folder of images with boxes" in inspect(capsys, code=1)
    for name, kind in (("a.tar", "tar"), ("a.parquet", "parquet"), ("train-00000-of-00001", "tfrecord")):
        (tmp_path / "data" / name).touch()
        assert f"; its shards, such as {name}, train with --dataset={kind}:" in inspect(capsys, code=1)
        (tmp_path / "data" / name).unlink()
    assert cli.main(["inspect", "--data=tar:data"]) == 1
    assert "data must be a folder of images; got 'tar:data', a data set whose splits" in capsys.readouterr().err
    assert cli.main(["inspect"]) == 1
    assert "data must be given" in capsys.readouterr().err
    assert "task must be one of" in inspect(capsys, "--task=detecting", code=1)
    shutil.rmtree("data")
    assert "data must name an existing folder" in inspect(capsys, code=1)
