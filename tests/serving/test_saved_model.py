"""The content of a published version, and what is rejected before it is published."""

import hashlib
import re

import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.cli import main as cli
from keras_resnet.data import sources
from keras_resnet.serving import publish, saved_model, warmup
from tests.serving.harness import Model, ServingError, fields, tensor_from_proto
from tests.serving.sources import MEAN, STD, Source, settle


def tiny(**options):
    settings = {"block": "basic", "stem": "cifar", "input_shape": (8, 8, 3), "classes": 3, **options}
    return settle(keras_resnet.ResNet([(4, 1, 1)], **settings))


def test_the_files_of_a_version(published, source):
    publish.verify(published)
    names = {path.relative_to(published).as_posix() for path in published.rglob("*") if path.is_file()}
    assert names == {
        "assets.extra/tf_serving_warmup_requests",
        "assets/labels.txt",
        "batching_params.pbtxt",
        "fingerprint.pb",
        "manifest.sha256",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    }
    assert (published / "assets" / "labels.txt").read_text().splitlines() == list(source.dataset_info.class_names)
    assert {path.name for path in published.parent.iterdir()} == {"1", "1.sha256", "models.config", "compose.yaml"}
    config = (published.parent / "models.config").read_text()
    assert 'name: "bottle"' in config
    assert 'base_path: "/models/bottle"' in config
    compose = (published.parent / "compose.yaml").read_text()
    assert "--model_config_file=/models/bottle/models.config" in compose
    assert ".:/models/bottle:ro" in compose
    sizes = re.findall(r"allowed_batch_sizes: (\d+)", (published / "batching_params.pbtxt").read_text())
    assert sizes[-1] == "32"


def test_warm_up_requests_replay(published, served):
    signatures = []
    for record in tf.data.TFRecordDataset(str(published / warmup.FILE)):
        (request,) = [value for _, value in fields(dict(fields(record.numpy()))[6])]
        content = dict(fields(request))
        signatures.append(dict(fields(content[1]))[3].decode())
        ((name, tensor),) = [tuple(value for _, value in fields(content[2]))]
        served.run(signatures[-1], {name.decode(): tensor_from_proto(tensor)})
    assert signatures == ["serving_default", "images", "features"]


def test_warm_up_requests_are_the_messages_of_tf_serving():
    # The digest of what tensorflow-serving-api 2.21.0 serializes for the same request.
    record = warmup.prediction_log("serving_default", {"image_bytes": np.array([b"x" * 300, b"yz"], object)})
    expected = "c6c6c85d6335c9bc03441c952bd1fdaf4888b465f7f20c36a692c779d5ebe3f9"
    assert hashlib.sha256(record).hexdigest() == expected


def test_options(tmp_path):
    source = Source(tiny())
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype("uint8")
    expected = source.model.predict_on_batch((images - np.float32(MEAN)) / np.float32(STD))
    sizes = {}
    for options, tolerance in (
        ({"fold": False, "max_pixels": 100}, 1e-5),
        ({"dtype": "float16", "top": 2, "version": 7}, 0.03),
    ):
        path = saved_model.export(source, tmp_path / "m", **options)
        served = Model(path)
        answer = served.run("images", {"images": images})
        np.testing.assert_allclose(answer["probabilities"], expected, atol=tolerance)
        assert answer["classes"].shape == answer["scores"].shape == (3, options.get("top", 3))
        if "max_pixels" in options:
            image = np.array([tf.io.encode_png(np.zeros((10, 11, 3), "uint8")).numpy()], object)
            with pytest.raises(ServingError, match="from 1 to 100 pixels"):
                served.run("serving_default", {"image_bytes": image})
        sizes[path.name] = (path / "variables" / "variables.data-00000-of-00001").stat().st_size
    assert list(sizes) == ["1", "7"]
    assert sizes["7"] < 0.7 * sizes["1"]


def test_a_mean_of_each_pixel_and_a_network_that_is_not_square(tmp_path):
    source = Source(tiny(input_shape=(8, 12, 3)), mean=np.random.default_rng(0).uniform(100, 140, (8, 12, 3)))
    source.photo_transform = lambda: keras_resnet.data.transforms.EvalTransform((8, 12), source.mean, STD)
    served = Model(saved_model.export(source, tmp_path / "m"))
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3)).astype("uint8")
    expected = source.model.predict_on_batch((images - np.float32(source.mean)) / np.float32(STD))
    np.testing.assert_allclose(served.run("images", {"images": images})["probabilities"], expected, atol=1e-5)


def test_a_broken_network_is_not_published(tmp_path):
    source = Source(tiny())
    source.model.get_layer("predictions").bias.assign([np.nan, 0, 0])
    with pytest.raises(ValueError, match="must give the same finite probabilities after the export"):
        saved_model.export(source, tmp_path / "m")
    with pytest.raises(ValueError, match="dtype must be 'float32' if batch norm is not folded"):
        saved_model.export(source, tmp_path / "m", fold=False, dtype="float16")
    with pytest.raises(ValueError, match="dtype must be one of"):
        saved_model.export(source, tmp_path / "m", dtype="int4")
    assert list(tmp_path.iterdir()) == []


def test_the_recipe_that_fails_in_tf_serving_fails_in_the_replay(tmp_path):
    """The replay detects what TensorFlow Serving cannot load: `tf.saved_model.save` of a Keras 3 network."""
    net = tiny()

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], name="inputs")])
    def serve(inputs):
        return {"probabilities": net(inputs)}

    module = tf.Module()
    module.net = net
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"serving_default": serve})
    inputs = {"serving_default": {"inputs": np.zeros((1, 8, 8, 3), "float32")}}
    with pytest.raises(tf.errors.FailedPreconditionError, match="Could not find variable"):
        warmup.replay(tmp_path / "m", inputs)


def test_a_weights_file(digits_run, tmp_path):
    """The export command takes a weights file as well as a run."""
    weights = tmp_path / "digits.weights.h5"
    assert cli.run("convert", [str(digits_run), str(weights)]) == 0
    assert cli.run("export", [f"--weights={weights}", f"--out={tmp_path}/m", "--top=2"]) == 0
    images = sources.load("digits").examples("test").images[:4]
    run = ClassifierRun.open(digits_run)
    expected = run.load().predict_on_batch(run.eval_transform().batch(images))
    answer = Model(tmp_path / "m" / "1").run("images", {"images": images})
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    assert answer["classes"][:, 0].tolist() == [str(best).encode() for best in expected.argmax(1)]
