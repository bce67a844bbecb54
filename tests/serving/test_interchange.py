"""ONNX and OpenVINO files: probabilities, names, batches, the report, and files that cannot be used."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet.classification import evaluate
from keras_resnet.classification.eval_config import EvalConfig
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.data import sources
from keras_resnet.errors import InputError
from keras_resnet.evaluation import exported
from keras_resnet.serving import folding, interchange
from tests.serving.sources import Source, settle

pytestmark = pytest.mark.usefixtures("short_timing")

FORMATS = ("onnx", "openvino")
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}


@pytest.fixture(scope="module", params=FORMATS)
def written(request, digits_run, short_timing, tmp_path_factory):
    """The folder of a run's file in a format."""
    for package in interchange.REQUIRED[request.param]:
        pytest.importorskip(package, reason=f"extra [{request.param}]")
    out = tmp_path_factory.mktemp(request.param) / "out"
    source, dataset = ClassifierRun.open(digits_run), sources.load("digits")
    interchange.export(source, out, request.param, dataset=dataset, report_split="test", report_images=100)
    return out


def path_of(folder):
    return next(path for path in folder.iterdir() if path.suffix in interchange.SUFFIXES.values())


def test_the_files(written):
    weights = {"resnet20.xml", "resnet20.bin"} if (written / "resnet20.xml").exists() else {"resnet20.onnx"}
    assert {path.name for path in written.iterdir()} == {
        *("labels.txt", "preprocessing.json", "report.json", "report.md", "report.png"),
        *weights,
    }
    assert (written / "labels.txt").read_text().split() == [str(digit) for digit in range(10)]
    assert json.loads((written / "preprocessing.json").read_text())["center_crop"] == [32, 32]
    assert [path.name for path in written.parent.iterdir()] == ["out"]
    original, file = json.loads((written / "report.json").read_text())
    assert file["top1_error"] == original["top1_error"]
    assert file["difference"] < 1e-4
    assert 1 < file["megabytes"] < 1.5
    assert ("OpenVINO" if len(weights) > 1 else "ONNX Runtime") in (written / "report.md").read_text()


def test_probabilities_and_any_batch(written, digits_run):
    run, images = ClassifierRun.open(digits_run), sources.load("digits").examples("test").images
    network = exported.read(path_of(written), threads=1)
    assert (network.size, network.classes, network.from_logits) == ((32, 32), 10, False)
    expected = run.load().predict_on_batch(run.eval_transform().batch(images[:40]))
    for count in (1, 2, 7, 30):
        np.testing.assert_allclose(network.function(images[:count]), expected[:count], atol=1e-5)


def test_the_evaluation_gives_the_error_of_the_network(written, digits_run):
    path = str(path_of(written))
    argument = "onnx" if path.endswith(".onnx") else "openvino"
    result = evaluate.evaluate([ClassifierRun.open(digits_run)], EvalConfig(), **{argument: path})
    own, file = (row.result for row in result.rows)
    assert (file.top1_error, file.count) == (own.top1_error, own.count)
    np.testing.assert_array_equal(file.outcomes.predicted, own.outcomes.predicted)


def test_a_mean_of_each_pixel(tmp_path, random):
    """The mean image of the paper's CIFAR-10 networks."""
    model = keras_resnet.ResNet([(8, 1, 1)], block="basic", stem="cifar", input_shape=(8, 8, 3), classes=3)
    source = Source(settle(model), mean=random.uniform(90, 130, (8, 8, 3)))
    images = random.integers(0, 256, (3, 8, 8, 3)).astype("uint8")
    expected = model.predict_on_batch((images - source.mean.astype("float32")) / np.float32(source.std))
    for format in FORMATS:
        pytest.importorskip(PACKAGES[format], reason=f"extra [{format}]")
        path = tmp_path / f"tiny{interchange.SUFFIXES[format]}"
        interchange.convert(folding.fold(model), source.mean, source.std, path)
        np.testing.assert_allclose(exported.read(path).function(images), expected, atol=1e-5)


def test_a_file_that_differs_is_refused(tmp_path, monkeypatch):
    model = keras_resnet.ResNet([(8, 1, 1)], block="basic", stem="cifar", input_shape=(8, 8, 3), classes=3)

    def wrong(path, threads=None):
        return exported.Exported("wrong", lambda images: np.full((len(images), 3), np.nan, "float32"), (8, 8), 3, False)

    pytest.importorskip("tf2onnx", reason="extra [onnx]")
    monkeypatch.setattr(exported, "read", wrong)
    with pytest.raises(InputError, match=r"tiny\w*\.onnx must give the network's probabilities.*differs by nan"):
        interchange.export(Source(keras.Model(model.inputs, model.outputs, name="tiny")), tmp_path / "out", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_mistakes(tmp_path, monkeypatch):
    with pytest.raises(
        InputError, match=r"format must be one of 'onnx', 'openvino'; got 'onx' \(did you mean 'onnx'\?\)"
    ):
        interchange.export(Source(None), tmp_path / "out", "onx")
    monkeypatch.setattr(interchange.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"requires tf2onnx and onnxruntime: pip install 'keras-resnet-zoo\[onnx\]'"):
        interchange.export(Source(None), tmp_path / "out", "onnx")


@pytest.mark.parametrize("format", FORMATS)
def test_files_that_cannot_be_read(format, tmp_path):
    pytest.importorskip(PACKAGES[format], reason=f"extra [{format}]")
    path = tmp_path / f"a{interchange.SUFFIXES[format]}"
    with pytest.raises(InputError, match=f"{format} must be an existing file; there is no "):
        exported.read(path)
    with pytest.raises(InputError, match=rf"{format} must be a file; '{tmp_path}' is a folder\.$"):
        getattr(exported, format)(tmp_path)
    path.write_bytes(b"no network")
    with pytest.raises(InputError, match=rf"{format} must be an? \w+ file; .* cannot be read: .*[^.]\.$"):
        exported.read(path)
    with pytest.raises(InputError, match=f"is a folder, which has '{path}'"):
        getattr(exported, format)(tmp_path)


def test_an_onnx_file_that_takes_no_images(tmp_path):
    tf2onnx = pytest.importorskip("tf2onnx", reason="extra [onnx]")
    spec = tf.TensorSpec([None, 3], tf.float32, name="x")
    network, _ = tf2onnx.convert.from_function(tf.function(lambda x: 2 * x, input_signature=[spec]), [spec])
    (tmp_path / "a.onnx").write_bytes(network.SerializeToString())
    with pytest.raises(InputError, match=r"onnx must take one batch of images \[N,H,W,3\]; .* takes \['x'\]"):
        exported.read(tmp_path / "a.onnx")
