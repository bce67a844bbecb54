"""TFLite files, run by LiteRT."""

import json
import subprocess
import sys
import zipfile

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

import keras_resnet
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.data import pipeline, sources
from keras_resnet.data.transforms import EvalTransform
from keras_resnet.evaluation import exported as exported_networks
from keras_resnet.evaluation import metrics
from keras_resnet.serving import metadata, report, tflite, warmup
from tests.serving.sources import Source, settle

pytestmark = pytest.mark.usefixtures("short_timing")


@pytest.fixture(scope="module")
def run(digits_run):
    return ClassifierRun.open(digits_run)


@pytest.fixture(scope="module")
def exported(run, short_timing, tmp_path_factory):
    dataset = sources.load("digits")
    out = tmp_path_factory.mktemp("tflite") / "out"
    return tflite.export(run, out, dataset=dataset, calibration_images=50, report_split="test", report_images=200)


def variant(exported, name):
    return exported / f"resnet20_{name}.tflite"


def rows(exported):
    return {row["variant"]: row for row in json.loads((exported / "report.json").read_text())}


def test_the_files(exported):
    files = {path.name for path in exported.iterdir()}
    assert files == {f"resnet20_{name}.tflite" for name in tflite.VARIANTS} | {"report.md", "report.json", "report.png"}
    assert [path.name for path in exported.parent.iterdir()] == ["out"]


@pytest.mark.parametrize(("name", "bound"), [("float32", 1e-4), ("float16", 0.02), ("dynamic", 0.15), ("int8", 0.25)])
def test_probabilities_are_those_of_the_network(exported, run, name, bound):
    images = sources.load("digits").examples("test").images[:30]
    expected = run.load().predict_on_batch(run.eval_transform().batch(images))
    lite = exported_networks.tflite(variant(exported, name), 1)
    probabilities = np.concatenate([lite.function(image[None]) for image in images])
    assert np.abs(probabilities - expected).max() < bound
    assert np.mean(probabilities.argmax(1) == expected.argmax(1)) >= 0.85


@pytest.mark.parametrize("name", tflite.VARIANTS)
def test_built_in_operators_only(exported, name):
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(variant(exported, name).read_bytes(), 0))
    assert all(code.customCode is None for code in model.operatorCodes)
    types = {tensor.type for tensor in model.subgraphs[0].tensors}
    if name == "int8":
        assert types <= {schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.INT32}


def test_inputs_are_pixels(exported):
    for name in tflite.VARIANTS:
        (source,) = Interpreter(model_path=str(variant(exported, name))).get_input_details()
        assert source["dtype"] == np.uint8
        assert source["shape"].tolist() == [1, 32, 32, 3]
        if name == "int8":
            scale, zero = source["quantization"]
            assert (round(scale, 4), zero) == (1.0, 0)


def test_sizes(exported):
    found = rows(exported)
    assert found["float32"]["megabytes"] == pytest.approx(found["original"]["megabytes"], rel=0.1)
    assert found["float16"]["megabytes"] < 0.6 * found["float32"]["megabytes"]
    assert found["int8"]["megabytes"] < 0.35 * found["float32"]["megabytes"]


def test_the_report_counts_as_the_evaluation_does(exported, run):
    dataset = sources.load("digits").sample("test", 200)
    batches = pipeline.evaluate(dataset, 64, run.eval_transform(), split="picked")
    errors = metrics.evaluate(run.load().predict_on_batch, batches)
    found = rows(exported)
    assert found["original"]["top1_error"] == pytest.approx(errors.top1_error)
    assert found["original"]["top5_error"] == pytest.approx(errors.top5_error)
    assert found["original"]["agreement"] == 100
    assert {row["images"] for row in found.values()} == {200}
    text = (exported / "report.md").read_text()
    assert all(f"| {name} |" in text for name in ("original", *tflite.VARIANTS))


def test_a_data_set_with_some_of_the_classes(run, tmp_path):
    """Labels are matched with the network's outputs by the names of the classes."""
    digits = sources.load("digits").examples("test")
    chosen = np.isin(digits.labels, [3, 7])
    images, labels = digits.images[chosen], (digits.labels[chosen] == 3).astype("int32")
    seven_or_three = sources.from_arrays(images, labels, ("7", "3"))
    out = tflite.export(run, tmp_path / "out", variants=["float32"], dataset=seven_or_three, report_split="train")
    scores = run.load().predict_on_batch(run.eval_transform().batch(images))
    expected = 100 * np.mean(scores.argmax(1) != np.where(labels, 3, 7))
    assert [row["top1_error"] for row in rows(out).values()] == pytest.approx([expected, expected], abs=0.5)


def test_ties_of_integer_networks_are_errors():
    scores = np.array([[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]], "float32")
    row = report.Row.of("int8", scores, scores, np.array([6]), 1, [1.0])
    assert (row.top1_error, row.top5_error) == (100, 100)


def test_metadata(exported, run):
    path = variant(exported, "int8")
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().splitlines() == list(run.dataset_info.class_names)
        assert json.loads(archive.read("preprocessing.json"))["center_crop"] == [32, 32]
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    (entry,) = [entry for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
    content = bytes(model.buffers[entry.buffer].data)
    assert content[4:8] == b"M001"
    root = table(content, int.from_bytes(content[:4], "little"))
    assert text(root, 0) == "resnet20"
    (subgraph,) = tables(root, 3)
    (images,), (probabilities,) = tables(subgraph, 2), tables(subgraph, 3)
    assert (text(images, 0), text(probabilities, 0)) == ("images", "probabilities")
    (labels,) = tables(probabilities, 6)
    assert text(labels, 0) == "labels.txt"
    assert text(tables(root, 6)[0], 0) == "preprocessing.json"


# The slots of metadata_schema.fbs, read without the module that it generates.


def table(content, position):
    return flatbuffers.table.Table(bytearray(content), position)


def _place(owner, slot):
    return owner.Offset(4 + 2 * slot) + owner.Pos


def text(owner, slot):
    return owner.String(_place(owner, slot)).decode()


def tables(owner, slot):
    offset = owner.Offset(4 + 2 * slot)
    start = owner.Vector(offset)
    return [table(owner.Bytes, owner.Indirect(start + 4 * at)) for at in range(owner.VectorLen(offset))]


def test_any_batch_size(run, tmp_path):
    out = tflite.export(run, tmp_path / "out", variants=["float32"], batch_size=None)
    images = sources.load("digits").examples("test").images[:3]
    runner = Interpreter(model_path=str(out / "resnet20_float32.tflite")).get_signature_runner("serving_default")
    expected = run.load().predict_on_batch(run.eval_transform().batch(images))
    np.testing.assert_allclose(runner(images=images)["probabilities"], expected, atol=1e-4)
    assert {path.name for path in out.iterdir()} == {"resnet20_float32.tflite"}


def test_a_fixed_batch(run, tmp_path):
    dataset = sources.load("digits")
    options = {"calibration_images": 20, "report_split": "test", "report_images": 50}
    out = tflite.export(run, tmp_path / "out", variants=["float32", "int8"], dataset=dataset, batch_size=8, **options)
    assert {row["variant"]: row["agreement"] for row in rows(out).values()}["float32"] == 100
    assert rows(out)["int8"]["agreement"] >= 85
    # The last of three parts is not whole.
    images = dataset.examples("test").images[:20]
    expected = run.load().predict_on_batch(run.eval_transform().batch(images))
    network = exported_networks.tflite(variant(out, "float32"))
    np.testing.assert_allclose(network.function(images), expected, atol=1e-4)


def test_a_mean_of_each_pixel_in_integers(tmp_path, random):
    net = keras_resnet.ResNet([(4, 1, 1)], block="basic", stem="cifar", input_shape=(8, 8, 3), classes=3, name="tiny")
    source = Source(settle(net), mean=random.uniform(100, 140, (8, 8, 3)))
    images = random.integers(0, 256, (40, 8, 8, 3)).astype("uint8")
    dataset = sources.from_arrays(images, np.zeros(40, "int32"), source.dataset_info.class_names)
    out = tflite.export(source, tmp_path / "out", variants=["int8"], dataset=dataset, calibration_images=40)
    lite = exported_networks.tflite(out / "tiny_int8.tflite", 1)
    probabilities = np.concatenate([lite.function(image[None]) for image in images])
    assert np.abs(probabilities - net.predict_on_batch(source.photo_transform().batch(images))).max() < 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variants": ["int4"]}, "variants must be one of 'float32', .*'post_training_int8'; got 'int4'"),
        ({"variants": []}, "variants must be some of"),
        ({"variants": ["float32"], "batch_size": 0}, "batch_size must be at least 1, or None for any number; got 0"),
        ({"variants": ["int8"]}, "dataset must be given for the calibration"),
        (
            {"variants": ["int8"], "dataset": "digits", "calibration_images": 0},
            "calibration_images must be from 1 to",
        ),
        ({"variants": ["int8"], "dataset": "digits", "calibration_images": 5000}, "from 1 to the 1198 images of"),
        ({"dataset": "digits", "report_split": "val"}, "report_split must be one of 'train', 'test'"),
        (
            {"dataset": "digits", "report_split": "test", "report_images": 600},
            "from 0 to the 599 images of 'test'; got 600",
        ),
        ({"dataset": "synthetic:32x32x11", "report_split": "test"}, "network's 10 classes, or some of them by name"),
    ],
)
def test_mistakes_leave_nothing(run, tmp_path, arguments, message):
    if "dataset" in arguments:
        arguments = {**arguments, "dataset": sources.load(arguments["dataset"])}
    with pytest.raises(ValueError, match=message):
        tflite.export(run, tmp_path / "new" / "out", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_checked_before_the_network_is_loaded(tmp_path, run, monkeypatch):
    monkeypatch.setattr(type(run), "load", None)
    with pytest.raises(ValueError, match="dataset must be given for a report"):
        tflite.export(run, tmp_path / "out", variants=["float32"], report_split="test")


def test_an_existing_output_is_rejected(run, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match=r"out must be a folder that does not exist yet"):
        tflite.export(run, tmp_path / "out", variants=["float32"])
    assert (tmp_path / "out").read_text() == "mine"


def test_samples_are_spread_evenly():
    digits = sources.load("digits")
    picked = digits.sample("test", 3).examples("picked")
    np.testing.assert_array_equal(picked.labels, digits.examples("test").labels[[0, 199, 399]])
    assert digits.sample("test", 0).count("picked") == 599


def test_preprocessing_json_describes_the_test_transform(tmp_path):
    from PIL import Image

    from examples.tflite_predict import load_photo

    pixels = warmup.smooth_image(40, 60)
    photo = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    Image.fromarray(pixels).save(photo, quality=100, subsampling=0, exif=exif)
    for view in (
        EvalTransform((32, 32), (0.0,) * 3, (1.0,) * 3, 36, True),
        EvalTransform((36, 24), (0.0,) * 3, (1.0,) * 3),
    ):
        rule = json.loads(json.dumps(metadata.preprocessing(view)))
        expected = view.decode(photo.read_bytes()).numpy()
        difference = np.abs(load_photo(str(photo), rule)[0].astype("float32") - expected)
        assert difference.mean() < 3, view
    with pytest.raises(ValueError, match="60x40 pixels; the network requires 64x64"):
        load_photo(str(photo), metadata.preprocessing(EvalTransform((64, 64), (0.0,) * 3, (1.0,) * 3)))


def test_the_example_names_photos(exported, run, tmp_path):
    from PIL import Image

    image = sources.load("digits").examples("test").images[0]
    photo = tmp_path / "a photo.png"
    Image.fromarray(image).save(photo)
    command = [sys.executable, "examples/tflite_predict.py", "--top=1", f"--model={variant(exported, 'float32')}"]
    result = subprocess.run([*command, photo], capture_output=True, text=True)
    best = run.load().predict_on_batch(run.eval_transform().batch(image[None])).argmax()
    assert result.stdout.startswith(f"{photo}: {best} "), result.stderr
    result = subprocess.run([*command, tmp_path / "none.png"], capture_output=True, text=True)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
