"""The commands of detection: evaluate, predict and export a run, and errors."""

import json
import re
import shutil

import pytest
from PIL import Image

from keras_resnet.cli import main as cli
from keras_resnet.detection.data import sources
from keras_resnet.detection.run import DetectorRun
from keras_resnet.models import weights
from tests.detection.runs import config, write_scenes, write_shapes


def test_evaluate(trained_run, tmp_path, capsys):
    arguments = ["evaluate", f"--workdir={trained_run}", "--split=train[:3]"]
    assert cli.main([*arguments, "--refine", "--score_thresh=0.0"]) == 0
    output = capsys.readouterr().out
    assert "| red |" in output
    assert "| mean |" in output
    record = json.loads((trained_run / "evaluation_train_3" / "results.json").read_text())
    assert (record["images"], record["score_thresh"]) == (3, 0.0)
    assert len(list((trained_run / "evaluation_train_3/pictures").iterdir())) == 3
    assert cli.main([*arguments, f"--out={tmp_path}"]) == 1
    assert "out must be a folder that does not exist yet" in capsys.readouterr().err


def test_predict(trained_run, tmp_path, capsys):
    photo = trained_run.parent / "voc/JPEGImages/p0.jpg"
    arguments = ["predict", f"--workdir={trained_run}", f"--out={tmp_path}"]
    options = ["--scales=64,96", f"--ensemble={trained_run}", "--show=0.0", "--score_thresh=0.0"]
    assert cli.main([*arguments, *options, str(photo)]) == 0
    assert Image.open(tmp_path / "p0_boxes.png").size == (96, 64)
    assert re.search(r"(red|blue) 0\.\d+: left", capsys.readouterr().out)
    portrait = tmp_path / "other/p0.jpg"
    portrait.parent.mkdir()
    Image.open(photo).resize((48, 64)).save(portrait)
    shutil.copy(photo, portrait.with_name("p0_2.jpg"))
    photos = [str(photo), str(portrait), str(portrait.with_name("p0_2.jpg"))]
    assert cli.main([*arguments, *photos]) == 1
    assert "without 'p0_boxes.png'" in capsys.readouterr().err
    assert cli.main([*arguments[:2], f"--out={tmp_path}/new", *photos]) == 0
    assert Image.open(tmp_path / "new/p0_boxes.png").size == (96, 64)
    assert Image.open(tmp_path / "new/p0_2_boxes.png").size == (48, 64)
    assert (tmp_path / "new/p0_2_2_boxes.png").exists()


def test_export(trained_run, tmp_path, capsys):
    out = tmp_path / "model.tflite"
    arguments = ["export", f"--workdir={trained_run}", f"--out={out}", "--format=tflite"]
    assert cli.main([*arguments, "--style=tf_od"]) == 1
    assert "style is a flag of --format=saved_model, not of --format=tflite" in capsys.readouterr().err
    assert cli.main(arguments) == 0
    assert out.stat().st_size > 100_000


@pytest.mark.slow
def test_a_run_with_masks(tmp_path, tiny_backbone, capsys):
    """train, evaluate and predict by the command; a data set of boxes alone is refused."""
    pytest.importorskip("pycocotools")
    root = write_shapes(tmp_path / "coco")
    file = tmp_path / "config.json"
    file.write_text(config(root, masks=True, steps=2, score_thresh=0.0).to_json())
    assert cli.main(["train", f"--config={file}", f"--workdir={tmp_path / 'run'}"]) == 0
    (record,) = map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())
    assert {"val_map50", "val_mask_map50", "mask_loss"} <= set(record)
    assert 0 < record["mask_loss"] < 2
    assert cli.main(["evaluate", f"--workdir={tmp_path / 'run'}", "--coco"]) == 0
    output = capsys.readouterr().out
    assert "Masks, IoU 0.5:" in output
    assert "mask_AP50 " in output
    results = json.loads((tmp_path / "run/evaluation_val/results.json").read_text())
    assert results["mask_map50"] == pytest.approx(record["val_mask_map50"], abs=1e-6)
    assert (tmp_path / "run/evaluation_val/mask_curves.png").exists()
    photo = root / "val/s4.png"
    assert cli.main(["predict", f"--workdir={tmp_path / 'run'}", f"--out={tmp_path}", "--show=0", str(photo)]) == 0
    assert Image.open(tmp_path / "s4_boxes.png").size == (96, 64)

    boxes = write_scenes(tmp_path / "voc")
    file.write_text(config(boxes, masks=True).to_json())
    assert cli.main(["train", f"--config={file}", f"--workdir={tmp_path / 'new'}"]) == 1
    assert "masks requires objects with masks, such as COCO's polygons; 'train' of 'folder:" in capsys.readouterr().err


def test_average_precision_of_a_class_without_boxes_is_null(data, tmp_path):
    (data / "ImageSets/Main/one.txt").write_text("p0\n")
    (data / "Annotations/p0.xml").write_text(
        "<annotation><object><name>red</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        "</object></annotation>"
    )
    run = DetectorRun(tmp_path / "run", config(data), sources.load(f"folder:{data}").info)
    run.create()
    weights.save(run.build(), run.weights)
    assert cli.main(["evaluate", f"--workdir={run.path}", "--split=one"]) == 0
    record = json.loads((run.path / "evaluation_one/results.json").read_text(), parse_constant=pytest.fail)
    assert record["ap50"] == {"blue": None, "red": 0.0}


def test_a_damaged_image_is_named(data, tmp_path, capsys):
    path = data / "JPEGImages/p1.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    file = tmp_path / "config.json"
    file.write_text(config(data).to_json())
    assert cli.main(["train", f"--config={file}", f"--workdir={tmp_path / 'run'}"]) == 1
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert last_line.startswith(f"keras-resnet train: image {path} is missing, damaged, too large or no")


def test_mistakes(data, tmp_path, capsys):
    def error(verb, *arguments):
        assert cli.run(verb, [*arguments, "--task=detection"]) == 1
        return capsys.readouterr().err

    assert "preset must be one of" in error("train", "--preset=x", f"--workdir={tmp_path}")
    assert "workdir must be given" in error("train", "--preset=bccd_resnet50")
    assert "anchor_scales must be a list of numbers" in error("train", "--anchor_scales=a", "--workdir=x")
    assert "got '/nowhere'" in error("train", "--data=/nowhere", f"--workdir={tmp_path / 'run'}")
    assert "has no config.json" in error("evaluate", f"--workdir={tmp_path}")
    assert not (tmp_path / "run").exists()
