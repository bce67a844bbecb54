"""Costs of networks, compared with the paper and with manual sums."""

import pytest

import keras_resnet
from keras_resnet.models import costs


def test_costs_of_the_paper():
    table = costs.size_table(costs.networks(["resnet20", "ResNet110"]))
    assert "| ResNet20 | 20 | 32 | 269,722 | 40.6e6 |" in table
    assert "| ResNet110 | 110 | 32 | 1,727,962 | 252.9e6 |" in table
    assert costs.size_table(costs.networks([])).count("\n") == 1 + len(keras_resnet.ARCHITECTURES)
    v1_5 = costs.costs(costs.networks(["ResNet50"])[0], stride_in_1x1=False)
    assert round(v1_5["multiply_adds"] / 1e9, 3) == 4.089


def test_stages_add_up():
    """The stages of ResNet-18: products of kernel, channels, filters and output size."""
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
    [
        (["ResNet21"], r"networks must be one of 'resnet18', .*; got 'ResNet21' .did you mean 'resnet20'"),
        (["ResNet18", "ResNet20"], "networks must be all for ImageNet or all for CIFAR-10; got cifar, imagenet"),
    ],
)
def test_unknown_and_mixed_networks(names, message):
    with pytest.raises(ValueError, match=message):
        costs.stage_table(costs.networks(names))
