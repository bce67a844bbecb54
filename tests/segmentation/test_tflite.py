"""TFLite files of segmentation networks, and their report."""

import json
import zipfile

import numpy as np
import pytest

from keras_resnet.errors import InputError
from keras_resnet.evaluation.exported import tflite as read
from keras_resnet.segmentation import evaluate, inference, tflite
from tests.segmentation.nets import Transform, normalized, striped

pytest.importorskip("ai_edge_litert")

NAMES = ("red", "green", "blue")
SIZE = (48, 64)


def batches(images, labels):
    for number in range(len(images)):
        yield np.array([number]), images[number][None].astype("float32"), labels[number][None]


@pytest.fixture(scope="module")
def out(trained_segmenter, tmp_path_factory, short_timing):
    folder = tmp_path_factory.mktemp("tflite") / "out"
    calibration = [striped(24, seed=1)[0].astype("float32")]
    return tflite.export(
        trained_segmenter,
        folder,
        Transform,
        NAMES,
        size=SIZE,
        name="tiny",
        calibration=calibration,
        batches=batches(*striped(6)),
    )


def test_files_give_the_probabilities_of_the_network(trained_segmenter, out):
    images, _ = striped(3)
    expected = inference.predictor(trained_segmenter)(normalized(images))
    for variant, tolerance in (("float32", 1e-4), ("float16", 0.02), ("dynamic", 0.2), ("int8", 0.3)):
        found = read(out / f"tiny_{variant}.tflite").function(images)
        assert found.shape == expected.shape
        difference = np.abs(found - expected).max()
        assert difference < tolerance, (variant, difference)


def test_report(out, trained_segmenter):
    """The original's row is the evaluation of the network, and the classes of all files are nearly the same."""
    rows = json.loads((out / "report.json").read_text())
    assert [row["variant"] for row in rows] == ["original", *tflite.VARIANTS]
    images, labels = striped(6)
    split = [(np.arange(6), normalized(images), labels)]
    result = evaluate.evaluate(inference.predictor(trained_segmenter), split, NAMES, Transform).result
    assert rows[0]["mean_iou"] == pytest.approx(result.mean_iou, abs=1e-3)
    assert rows[0]["agreement"] == 100
    assert result.mean_iou > 60
    for row in rows[1:]:
        assert row["agreement"] > 97, row
        assert abs(row["mean_iou"] - rows[0]["mean_iou"]) < 3, row
    assert rows[4]["megabytes"] < 0.4 * rows[1]["megabytes"]
    text = (out / "report.md").read_text()
    assert "6 images, measured at their own sizes" in text
    assert f"| original | {result.mean_iou:.2f} |" in text


def test_metadata_says_how_a_photo_becomes_the_input(out):
    with zipfile.ZipFile(out / "tiny_int8.tflite") as archive:
        assert archive.read("labels.txt").decode() == "red\ngreen\nblue\n"
        rule = json.loads(archive.read("preprocessing.json"))
    assert rule["resize"] == [48, 64]
    assert rule["exif_orientation"] == "ignored"


def test_images_of_other_sizes_are_measured_at_their_own(trained_segmenter, tmp_path, short_timing):
    images, labels = striped(2, (60, 80))
    tflite.export(
        trained_segmenter,
        tmp_path / "a",
        Transform,
        NAMES,
        size=SIZE,
        variants=("float32",),
        batches=batches(images, labels),
    )
    rows = json.loads((tmp_path / "a/report.json").read_text())
    assert [row["images"] for row in rows] == [2, 2]
    assert rows[1]["agreement"] > 99.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variants": ("int4",)}, "variants must be one of 'float32', .*; got 'int4'"),
        ({"variants": ()}, "variants must be some of float32, float16, dynamic, int8; got none"),
        ({"size": (16, 64)}, r"size must be a height and a width of at least 32 pixels; got \[16, 64\]"),
        ({}, "calibration must have at least one image for int8; it has none"),
    ],
)
def test_wrong_arguments(trained_segmenter, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        tflite.export(trained_segmenter, tmp_path / "new", Transform, NAMES, **{"size": SIZE, **options})
    assert not list(tmp_path.iterdir())
