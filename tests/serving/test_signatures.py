"""The signatures, run by TensorFlow's C API, without Keras."""

import json
import pathlib

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.data import pipeline
from keras_resnet.data.dataset import Dataset, Files
from keras_resnet.serving import saved_model, signatures
from tests.conftest import READABLE
from tests.serving import soak_images
from tests.serving.every_model import differences, names_and_shapes, openvino_difference
from tests.serving.harness import Model, ServingError
from tests.serving.odd_files import odd_files
from tests.serving.sources import Source, encoded, settle, smooth

GOLDEN = json.loads(pathlib.Path(__file__).with_name("signatures.json").read_text(encoding="utf-8"))
FAMILIES = {
    "basic": {"block": "basic", "shortcut": "A"},
    "bottleneck": {"block": "bottleneck"},
    "plain": {"block": "basic", "shortcut": None},
}


def answer(model, contents, signature="serving_default"):
    return model.run(signature, {"image_bytes": np.array(contents, object)})


@pytest.fixture(scope="module")
def twenty_others():
    """Networks built earlier change the counters from which Keras makes names."""
    options = {"block": "basic", "stem": "cifar", "input_shape": (8, 8, 3), "classes": 2}
    return [keras_resnet.ResNet([(2, 1, 1)], name=f"other{number}", **options) for number in range(20)]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_signatures_of_each_family_compute_the_network(family, twenty_others, tmp_path):
    net = keras_resnet.ResNet([(16, 1, 1), (24, 1, 2)], stem="cifar", input_shape=(8, 8, 3), **FAMILIES[family])
    source = Source(settle(net))
    path = saved_model.export(source, tmp_path / "m")
    assert names_and_shapes(Model(path)) == GOLDEN
    worst = differences(source, path)
    assert worst.keys() == GOLDEN.keys()
    assert max(worst.values()) <= 1e-5
    pytest.importorskip("openvino")
    assert openvino_difference(source, tmp_path / "openvino") <= 1e-4


def test_row_by_row(served, random):
    images = [smooth(random, 40, 50) for _ in range(8)]
    files = [encoded(image) for image in images]
    together = answer(served, files)
    padded = answer(served, files[:5] + files[:1] * 3)
    for at, contents in enumerate(files):
        alone = answer(served, [contents])
        np.testing.assert_allclose(together["probabilities"][at], alone["probabilities"][0], atol=1e-5)
        assert together["classes"][at, 0] == alone["classes"][0, 0]
        if at < 5:
            np.testing.assert_allclose(padded["probabilities"][at], alone["probabilities"][0], atol=1e-5)


def pipeline_pixels(source, files, tmp_path):
    """The files that the evaluation pipeline reads: name -> f32[H,W,3] normalized."""
    paths = [tmp_path / f"{number}" for number in range(len(files))]
    for path, (contents, _) in zip(paths, files.values(), strict=True):
        path.write_bytes(contents)
    examples = Files(np.array(list(map(str, paths))), np.zeros(len(paths), "int32"))
    info = source.dataset_info
    info.splits["test"] = len(paths)
    broken = pipeline.BrokenFiles(len(paths), 1.0)
    batches = pipeline.evaluate(
        Dataset(info, lambda split: examples), 4, source.photo_transform(), with_index=True, broken=broken
    )
    names, result = list(files), {}
    for images, _, indices in batches:
        result.update({names[index]: pixels for index, pixels in zip(indices.numpy(), images.numpy(), strict=True)})
    return result


@pytest.mark.parametrize("exif", [False, True])
def test_pixels_are_those_of_the_evaluation_pipeline(exif, random, tmp_path):
    """Also for unusual files. The features of the exported network are its input, so they show the pixels."""
    inputs = keras.Input((32, 32, 3))
    net = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(inputs)), name="eye")
    source = Source(net, resize=36, exif=exif)
    served = Model(saved_model.export(source, tmp_path / "eye"))
    files = odd_files(random)
    assert len(files) >= 30
    expected = pipeline_pixels(source, files, tmp_path)
    assert set(expected) == {name for name, (_, outcome) in files.items() if outcome == "read"}
    for name, (contents, outcome) in files.items():
        if outcome == "refused":
            with pytest.raises(ServingError) as refusal:
                answer(served, [contents], "features")
            assert refusal.value.code == soak_images.INVALID_ARGUMENT, name
        else:
            pixels = answer(served, [contents], "features")["features"].reshape(32, 32, 3)
            np.testing.assert_array_equal(pixels, expected[name], err_msg=name)
    oriented = [expected[f"jpeg with orientation {value}"] for value in (1, 6)]
    assert np.array_equal(*oriented) is not exif


def test_photos_of_the_size_of_the_network_are_not_changed(source, random):
    same = Source(source.model)
    images = random.integers(0, 256, (2, 32, 32, 3)).astype("uint8")
    np.testing.assert_array_equal(same.photo_transform().crop(images), images)


@pytest.mark.parametrize(
    ("contents", "cause"),
    [
        (b"no image", f"the file is not a {READABLE} image"),
        (b"", f"the file is not a {READABLE} image"),
        (encoded(np.zeros((40, 40, 3), "uint8"), "JPEG")[:300], "Invalid JPEG"),
        (soak_images.bomb(), "the image must have from 1 to 50000000 pixels; its header says height and width"),
    ],
)
def test_a_bad_image_is_an_invalid_argument_that_names_the_cause(served, contents, cause):
    good = encoded(np.zeros((40, 40, 3), "uint8"))
    with pytest.raises(ServingError, match=cause) as refusal:
        answer(served, [good, contents])
    assert refusal.value.code == soak_images.INVALID_ARGUMENT


@pytest.mark.parametrize("shape", [(0, 32, 32, 3), (1, 0, 5, 3)])
def test_empty_batches_are_rejected_with_a_clear_message(served, shape):
    with pytest.raises(ServingError, match="must have at least one image, of at least one pixel"):
        served.run("images", {"images": np.zeros(shape, "uint8")})


def test_a_decompression_bomb_takes_little_time_and_memory(served):
    cost = soak_images.refuse_bomb(served)
    assert cost["ms"] < 50
    assert cost["MB"] < 20


def test_damaged_images(served):
    """A short run of `python -m tests.serving.soak_images`."""
    result = soak_images.soak(served, 1000)
    assert set(result) == {"answered", "refused", "growth MB", "most frequent messages"}
    assert result["answered"] + result["refused"] == 1000
    assert min(result["answered"], result["refused"]) > 100


def test_one_pixel_high_images(served, random):
    wide = encoded(random.integers(0, 256, (1, 3000, 3)).astype("uint8"))
    assert np.isfinite(answer(served, [wide])["probabilities"]).all()


def test_mistakes(source):
    transform, names = source.photo_transform(), source.dataset_info.class_names
    with pytest.raises(ValueError, match="class_names must be the names of the 7 classes; got 6"):
        signatures.endpoints(source.model, transform, names[:6])
    with pytest.raises(ValueError, match="top must be at least 1; got 0"):
        signatures.endpoints(source.model, transform, names, top=0)


def test_keras_own_export_has_stable_names_too(source, tmp_path):
    source.model.export(str(tmp_path / "m"), verbose=False)
    bare = Model(tmp_path / "m")
    inputs, outputs = bare.signatures["serving_default"]
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in inputs.items()} == {
        "inputs": ("float32", [None, 32, 32, 3])
    }
    assert list(outputs) == ["output_0"]
    images = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype("float32")
    result = bare.run("serving_default", {"inputs": images})["output_0"]
    np.testing.assert_allclose(result, source.model.predict_on_batch(images), atol=1e-5)
