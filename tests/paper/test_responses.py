"""Layer responses and costs against NumPy and the paper's numbers; pictures that can be opened."""

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet.experiment import curves
from keras_resnet.models import costs
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


def test_costs_are_the_papers():
    table = costs.size_table(costs.networks(["resnet20", "ResNet110"]))
    assert "| ResNet20 | 20 | 32 | 269,722 | 40.6e6 |" in table
    assert "| ResNet110 | 110 | 32 | 1,727,962 | 252.9e6 |" in table
    assert costs.size_table(costs.networks([])).count("\n") == 1 + len(keras_resnet.ARCHITECTURES)
    v1_5 = costs.costs(costs.networks(["ResNet50"])[0], stride_in_1x1=False)
    assert round(v1_5["multiply_adds"] / 1e9, 3) == 4.089


def test_stages_add_up():
    """Each stage by hand for ResNet-18: the products of kernel, channels, filters and map."""
    (net,) = costs.networks(["ResNet18"])
    table = costs.stage_table([net]).splitlines()
    assert table[2] == "| conv1 | 112 | 7x7, 64, stride 2 (0.01M, 118e6) |"
    conv3 = (9 * 64 * 128 + 3 * 9 * 128 * 128 + 64 * 128) * 28 * 28
    assert table[4] == f"| conv3_x | 28 | [3x3, 128; 3x3, 128] x2 (0.53M, {conv3 / 1e6:.0f}e6) |"
    assert table[-1] == "| all | | (11.69M, 1814e6) |"
    cell = costs.stage_table(costs.networks(["ResNet50", "ResNet152"])).splitlines()[5]
    assert "[1x1, 256; 3x3, 256; 1x1, 1024] x36" in cell


@pytest.mark.parametrize(
    ("names", "message"),
    [(["ResNet21"], "networks must be among ResNet18, "), (["ResNet18", "ResNet20"], "all for ImageNet")],
)
def test_costs_of_unknown_and_unlike_networks(names, message):
    with pytest.raises(ValueError, match=message):
        costs.stage_table(costs.networks(names))
