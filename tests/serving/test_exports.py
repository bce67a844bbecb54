"""Exports, run outside Keras."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import keras_resnet
from keras_resnet.serving import saved_model, tflite

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 61.0, 62.0)


@pytest.fixture(params=["basic", "bottleneck"])
def model(request, random):
    stages = [(16, 1, 1), (32, 1, 2)]
    net = keras_resnet.ResNet(stages, block=request.param, stem="cifar", input_shape=(8, 8, 3), classes=4)
    net.set_weights([w + 0.1 * random.uniform(size=w.shape) for w in net.get_weights()])
    return net


@pytest.fixture
def images(random):
    return random.integers(0, 256, (7, 8, 8, 3)).astype("uint8")


def expected(model, images):
    return model.predict_on_batch((images - np.float32(MEAN)) / np.float32(STD))


def test_saved_model_in_the_loader_of_tf_serving(model, images, tmp_path):
    saved_model.export(model, tmp_path / "model", MEAN, STD)
    np.save(tmp_path / "images.npy", images)
    cli = pathlib.Path(sys.executable).with_name("saved_model_cli")
    command = [cli, "run", "--dir", tmp_path / "model", "--tag_set", "serve", "--signature_def", "serving_default"]
    command += ["--inputs", f"images={tmp_path}/images.npy", "--outdir", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "probabilities.npy"), expected(model, images), atol=1e-5)


def test_tflite_in_litert(model, images, tmp_path):
    tflite.export(model, tmp_path / "model.tflite", MEAN, STD)
    runner = Interpreter(model_path=str(tmp_path / "model.tflite")).get_signature_runner("serving_default")
    results = [runner(images=image[None])["probabilities"][0] for image in images]
    np.testing.assert_allclose(results, expected(model, images), atol=1e-4)
    assert (tmp_path / "model.tflite").stat().st_size > 4 * model.count_params() * 0.9


@pytest.mark.parametrize("exporter", [saved_model, tflite])
def test_an_existing_output_is_refused(exporter, model, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match=r"out must be a f.* that does not exist yet"):
        exporter.export(model, tmp_path / "out", MEAN, STD)
    assert (tmp_path / "out").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1
