"""The commands of segmentation: evaluate and predict a run, and errors."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_resnet.cli import main as cli
from keras_resnet.segmentation import inference
from keras_resnet.segmentation.run import SegmenterRun
from tests.serving import harness


def test_evaluate(trained_run, tmp_path, capsys):
    out = tmp_path / "report"
    arguments = ["evaluate", f"--workdir={trained_run}", "--split=train", f"--out={out}", "--pictures=2"]
    assert cli.main([*arguments, "--scales=1,1.5", "--mirror"]) == 0
    output = capsys.readouterr().out
    assert "| red |" in output
    assert "fcn on tiny" in output
    record = json.loads((out / "results.json").read_text())
    assert (record["images"], record["split"], record["scales"], record["mirror"]) == (3, "train", [1.0, 1.5], True)
    assert len(list((out / "pictures").iterdir())) == 2
    assert cli.main(arguments) == 1
    assert "out must be a folder that does not exist yet" in capsys.readouterr().err


def test_an_evaluation_of_the_same_images_elsewhere_is_that_of_training(trained_run, tmp_path, capsys):
    records = [json.loads(line) for line in (trained_run / "metrics.jsonl").read_text().splitlines()]
    best = min(records, key=lambda record: (record["val_error"], -record["step"]))
    other = tmp_path / "other"
    for kind in ("images", "masks"):
        shutil.copytree(trained_run.parent / f"set/{kind}/val", other / f"{kind}/test")
    arguments = ["evaluate", f"--workdir={trained_run}", f"--out={tmp_path}/report", "--batch_size=7"]
    assert cli.main([*arguments, f"--dataset=folder:{other}", "--split=test"]) == 0
    record = json.loads((tmp_path / "report/results.json").read_text())
    assert record["dataset"] == f"folder:{other}"
    assert record["mean_iou"] == pytest.approx(best["val_miou"], abs=1e-3)


def test_predict(trained_run, tmp_path, capsys):
    photo = trained_run.parent / "set/images/val/x0.png"
    shutil.copy(photo, tmp_path / "x0.png")
    out = tmp_path / "new/out"
    arguments = ["predict", f"--workdir={trained_run}", f"--out={out}"]
    assert cli.main([*arguments, str(photo), str(tmp_path / "x0.png")]) == 0
    index = Image.open(out / "x0_labels.png")
    assert index.mode == "P"
    labels = np.asarray(index)
    assert (labels.shape, labels.dtype) == ((24, 32), np.uint8)
    colors = np.asarray(Image.open(out / "x0_colors.png"))
    np.testing.assert_array_equal(colors, SegmenterRun.open(trained_run).palette[labels])
    assert np.asarray(Image.open(out / "x0_2_overlay.png")).shape == (24, 32, 3)
    output = capsys.readouterr().out
    share = 100 * np.bincount(labels.ravel()).max() / labels.size
    assert f" {share:.1f} %" in output
    assert cli.main([*arguments, str(photo)]) == 1
    assert "out must be a folder without 'x0_labels.png'" in capsys.readouterr().err


def test_export_saved_model(trained_run, tmp_path, capsys):
    out = tmp_path / "versions"
    arguments = ["export", f"--workdir={trained_run}", f"--out={out}", "--probability_size=6,8"]
    assert cli.main(arguments) == 0
    assert f"wrote {out / '1'}" in capsys.readouterr().out
    photo = Image.open(trained_run.parent / "set/images/val/x0.png").convert("RGB")
    pixels = np.asarray(photo)[None]
    run = SegmenterRun.open(trained_run)
    expected = inference.predictor(run.load())(run.transform().normalize(pixels))
    np.testing.assert_array_equal(
        harness.Model(out / "1").run("images", {"images": pixels})["mask"], expected.argmax(-1)
    )
    assert cli.main([*arguments, "--size=32,32"]) == 1
    assert "size is a flag of --format=tflite, not of --format=saved_model" in capsys.readouterr().err


def test_export_tflite(trained_run, tmp_path, capsys, short_timing):
    pytest.importorskip("ai_edge_litert")
    out = tmp_path / "tflite"
    arguments = ["export", f"--workdir={trained_run}", f"--out={out}", "--format=tflite", "--size=32,64"]
    assert cli.main([*arguments, "--variants=float32,int8", "--calibration_images=2"]) == 0
    assert "| int8 |" in capsys.readouterr().out
    assert sorted(path.name for path in out.glob("*.tflite")) == ["fcn_tiny_float32.tflite", "fcn_tiny_int8.tflite"]
    rows = json.loads((out / "report.json").read_text())
    assert [row["images"] for row in rows] == [2, 2, 2]
    assert cli.main(arguments) == 1
    assert "out must be a folder that does not exist yet" in capsys.readouterr().err


def test_mistakes(data, tmp_path, capsys):
    def error(verb, *arguments):
        assert cli.run(verb, [*arguments, "--task=segmentation"]) == 1
        return capsys.readouterr().err

    assert "workdir must be given" in error("train", "--preset=camvid_deeplabv3_resnet50", f"--dataset=folder:{data}")
    assert "got '/nowhere'" in error("train", "--data=/nowhere", f"--workdir={tmp_path / 'run'}")
    assert "after 'voc:'; got '/nowhere'" in error("train", "--dataset=voc:/nowhere", f"--workdir={tmp_path / 'run'}")
    assert "has no config.json" in error("evaluate", f"--workdir={tmp_path}")
    (tmp_path / "config.json").write_text("{}")
    assert "predict requires at least one image file" in error("predict", f"--workdir={tmp_path}")
    assert not (tmp_path / "run").exists()
