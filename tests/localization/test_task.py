"""The commands of localization: train, evaluate, predict and export, and errors."""

import csv
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet.cli import main as cli
from keras_resnet.experiment.curves import read_metrics
from keras_resnet.localization.run import LocalizerRun
from tests.serving import harness


def test_evaluate_is_that_of_training(trained_runs, tmp_path, capsys):
    best = min(read_metrics(LocalizerRun.open(trained_runs[1]).metrics), key=lambda record: record["val_error"])
    out = tmp_path / "report"
    arguments = ["evaluate", f"--workdir={trained_runs[1]}", f"--out={out}", "--pictures=1"]
    assert cli.main(arguments) == 0
    output = capsys.readouterr().out
    assert "stage 2 on tiny, synthetic:64x64x3 val[:3], 3 images, single:" in output
    assert "| true class error |" in output
    assert "at the center" in output
    record = json.loads((out / "results.json").read_text())
    assert record["true_class_error"] == pytest.approx(best["val_error"])
    assert (record["images"], record["proposals"], record["stage"]) == (3, 6, 2)
    assert len(list((out / "pictures").iterdir())) == 2
    assert "Most confident mistakes" in (out / "index.html").read_text()
    assert len(list(csv.reader((out / "images.csv").open()))) == 4
    assert cli.main(arguments) == 1
    assert "out must be a folder that does not exist yet" in capsys.readouterr().err


def test_evaluate_with_scales_of_the_whole_image(trained_runs, tmp_path, capsys):
    arguments = ["evaluate", f"--workdir={trained_runs[0]}", f"--out={tmp_path}/report", "--scales=64,80", "--mirror"]
    assert cli.main([*arguments, "--vote_thresh=0.5"]) == 0
    record = json.loads((tmp_path / "report/results.json").read_text())
    assert (record["protocol"], record["scales"], record["mirror"], record["vote_thresh"]) == (
        "dense",
        [64, 80],
        True,
        0.5,
    )


def test_predict(trained_runs, tmp_path, capsys):
    photo = LocalizerRun.open(trained_runs[0]).dataset().examples("val[:1]")[0].path
    out = tmp_path / "new/out"
    arguments = ["predict", f"--workdir={trained_runs[0]}", f"--out={out}", "--top=2", photo]
    assert cli.main(arguments) == 0
    output = capsys.readouterr().out
    lines = [line for line in output.splitlines() if line.startswith("  ")]
    assert len(lines) == 2
    assert all("left" in line for line in lines)
    assert Image.open(next(out.glob("*_boxes.png"))).width >= 64
    assert cli.main(arguments) == 1
    assert "out must be a folder without" in capsys.readouterr().err


def test_predict_skips_a_file_that_is_no_image(trained_runs, tmp_path, capsys):
    photo = LocalizerRun.open(trained_runs[0]).dataset().examples("val[:1]")[0].path
    (tmp_path / "broken.png").write_text("text")
    arguments = ["predict", f"--workdir={trained_runs[0]}", f"--out={tmp_path}", f"{tmp_path}/broken.png", photo]
    assert cli.main(arguments) == 1
    captured = capsys.readouterr()
    assert "1 of 2 images cannot be read" in captured.err
    assert [path.name for path in tmp_path.glob("*_boxes.png")] == [f"{pathlib.Path(photo).stem}_boxes.png"]
    assert captured.out.count("left") == 3


def test_export(trained_runs, tmp_path, capsys):
    out = tmp_path / "versions"
    assert cli.main(["export", f"--workdir={trained_runs[0]}", f"--out={out}"]) == 0
    assert f"wrote {out / '1'}" in capsys.readouterr().out
    outputs = harness.Model(out / "1").signatures["serving_default"][1]
    assert set(outputs) == {"classes", "scores", "boxes", "box_scores"}


def test_export_tflite(trained_runs, tmp_path, capsys):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    out = tmp_path / "new/loc.tflite"
    arguments = ["export", "--format=tflite", f"--out={out}", f"--workdir={trained_runs[0]}", "--vote_thresh=0.5"]
    assert cli.main([*arguments, "--size=64,96"]) == 0
    run = LocalizerRun.open(trained_runs[0])
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    localize = run.localizer("float32", protocol="dense", scales=(64,), vote_thresh=0.5)
    boxes, scores = localize(pixels, tf.range(3))
    answer = litert.Interpreter(str(out)).get_signature_runner()(images=pixels[None].astype("float32"))
    np.testing.assert_allclose(answer["boxes"][0], boxes, atol=1e-2)
    np.testing.assert_allclose(answer["scores"][0], scores, atol=1e-4)
    for more, message in (
        ([], "out must be a file that does not exist yet"),
        (["--size=64"], "size must be a height and a width of at least 32 pixels"),
        (["--top=2"], "top is a flag of --format=saved_model"),
        (["--classifier_weights=imagenet"], "contain no classifier"),
        ([f"--workdir={trained_runs[1]}"], "TFLite files contain stage 1 alone"),
    ):
        assert cli.main([*arguments, *more, *([f"--out={out}2"] if more else [])]) == 1
        assert message in capsys.readouterr().err


def test_mistakes(trained_runs, tmp_path, capsys):
    def error(verb, *arguments):
        assert cli.run(verb, [*arguments, "--task=localization"]) == 1
        return capsys.readouterr().err

    assert "stage_one must be given for stage 2" in error(
        "train", "--preset=synthetic_loc_resnet18_rcnn", f"--workdir={tmp_path / 'run'}"
    )
    workdir = f"--workdir={trained_runs[0]}"
    assert "scales is a flag of --protocol=dense" in error("evaluate", workdir, "--protocol=single", "--scales=64")
    assert "has no config.json" in error("evaluate", f"--workdir={tmp_path}")
    for flags, message in (
        (["--vote_thresh=7"], "vote_thresh must be from 0 to 1; got 7.0"),
        (["--resize=32"], "resize must be 0 or at least the crop, 64; got 32"),
        (["--proposals=5"], "proposals is a flag of runs of stage 2"),
        (["--multiply_scores"], "multiply_scores is a flag of runs of stage 2"),
        ([f"--classifier_workdir={trained_runs[0]}"], "classifier_workdir must be the folder of a classification run"),
        (["--classifier_weights=imagnet"], "classifier_weights must be"),
    ):
        assert message in error("evaluate", workdir, *flags)
    assert "an export must have one classifier" in error(
        "export", workdir, f"--out={tmp_path}/out", "--classifier_weights=imagenet,imagenet"
    )
    assert not (tmp_path / "run").exists()
