"""Layer responses against NumPy, and plots that can be opened."""

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet.experiment import curves
from keras_resnet.paper import responses


def test_layer_responses(random):
    keras.utils.set_random_seed(0)
    model = keras_resnet.ResNet([(16, 1, 1)], block="basic", stem="cifar", input_shape=(8, 8, 3), classes=2)
    batches = [random.normal(size=(size, 8, 8, 3)).astype("float32") for size in (5, 3)]
    found = responses.layer_responses(model, batches)
    assert found.layers == ("conv1_conv", "conv2_block1_1_conv", "conv2_block1_2_conv")
    for layer, deviation in zip(("conv1_bn", "conv2_block1_1_bn", "conv2_block1_2_bn"), found.deviations, strict=True):
        answers = keras.Model(model.input, model.get_layer(layer).output)(np.concatenate(batches))
        assert deviation == pytest.approx(np.std(answers), rel=1e-5)


def test_bottlenecks_have_one_3x3_layer_each():
    keras.utils.set_random_seed(0)
    model = keras_resnet.ResNet([(4, 2, 1)], input_shape=(32, 32, 3), classes=2)
    found = responses.layer_responses(model, [(np.ones((1, 32, 32, 3), "float32"), np.zeros(1))], "tiny")
    assert (found.name, found.layers) == ("tiny", ("conv2_block1_2_conv", "conv2_block2_2_conv"))


def test_networks_without_such_layers():
    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match="must have 3x3 convolutions"):
        responses.layer_responses(keras.Model(inputs, keras.layers.Dense(2)(inputs)), [])


def test_response_plot_and_table(tmp_path):
    found = [
        responses.Responses(name, ("a_conv", "b_conv"), np.array(deviations))
        for name, deviations in (("plainnet20", [2.0, 1.0]), ("resnet20", [0.5, 0.25]))
    ]
    responses.plot(found, tmp_path / "responses.png")
    assert Image.open(tmp_path / "responses.png").size == (700, 650)
    responses.write_csv(found, tmp_path / "responses.csv")
    lines = (tmp_path / "responses.csv").read_text().split()
    assert lines[:2] == ["network,layer,standard_deviation", "plainnet20,a_conv,2.000000"]
    assert len(lines) == 5


def test_curves_of_several_runs(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "top1_error": 9, "val_top1_error": 8}\n{"step": 2, "top')
    records = curves.read_metrics(tmp_path / "metrics.jsonl")
    assert records == [{"step": 1, "top1_error": 9, "val_top1_error": 8}]
    curves.plot({"a": records, "b": [], "c": [{"step": 2, "val_top1_error": 3}]}, tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").size == (840, 540)
