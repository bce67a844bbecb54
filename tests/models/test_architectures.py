"""Parameters and multiply-adds of the table, compared with the paper and published models."""

import subprocess
import sys

import pytest

from keras_resnet.models.architectures import ARCHITECTURES, Architecture, Stage

PARAMETERS = {
    "ResNet18": 11_689_512,
    "ResNet34": 21_797_672,
    "PlainNet34": 21_623_848,
    "ResNet50": 25_557_032,
    "ResNet101": 44_549_160,
    "ResNet152": 60_192_808,
    "ResNet20": 269_722,
    "ResNet32": 464_154,
    "ResNet44": 658_586,
    "ResNet56": 853_018,
    "ResNet110": 1_727_962,
    "ResNet1202": 19_421_274,
}
MULTIPLY_ADDS = {  # in 1e9, as three decimals state them
    "ResNet18": 1.814,
    "ResNet34": 3.664,
    "PlainNet34": 3.644,
    "ResNet50": 3.858,
    "ResNet101": 7.570,
    "ResNet152": 11.282,
}
V1_5 = {"ResNet50": 4.089, "ResNet101": 7.801, "ResNet152": 11.514}


@pytest.mark.parametrize(("name", "golden"), PARAMETERS.items())
def test_parameters(name, golden):
    assert ARCHITECTURES[name].parameters() == golden


@pytest.mark.parametrize(("name", "golden"), MULTIPLY_ADDS.items())
def test_multiply_adds(name, golden):
    assert round(ARCHITECTURES[name].multiply_adds() / 1e9, 3) == golden


@pytest.mark.parametrize(("name", "golden"), V1_5.items())
def test_v1_5_moves_the_stride_and_keeps_the_parameters(name, golden):
    net = ARCHITECTURES[name]
    assert round(net.multiply_adds(stride_in_1x1=False) / 1e9, 3) == golden
    assert net.parameters(stride_in_1x1=False) == net.parameters()


@pytest.mark.parametrize("n", [3, 5, 7, 9, 18, 200])
def test_cifar_multiply_adds_by_the_formula(n):
    """Section 4.2: each stage has 2n layers of 2,359,296 multiply-adds; first layers of later stages have half."""
    layer = 32 * 32 * 9 * 16 * 16
    expected = 32 * 32 * 9 * 3 * 16 + (6 * n * layer - 2 * layer // 2) + 64 * 10
    assert ARCHITECTURES[f"ResNet{6 * n + 2}"].multiply_adds() == expected


def test_shortcut_options_of_34_layers():
    """A has the parameters of the plain network; B adds three projections, C one for each of the 16 blocks."""
    net = ARCHITECTURES["ResNet34"]
    assert net.parameters(shortcut="A") == net.parameters(shortcut=None) == ARCHITECTURES["PlainNet34"].parameters()
    projections = sum(c * f + 2 * f for c, f in ((64, 128), (128, 256), (256, 512)))
    assert net.parameters(shortcut="B") - net.parameters(shortcut="A") == projections
    squares = sum(n * (f * f + 2 * f) for n, f in ((3, 64), (3, 128), (5, 256), (2, 512)))
    assert net.parameters(shortcut="C") - net.parameters(shortcut="B") == squares
    cost = {option: net.multiply_adds(shortcut=option) for option in "ABC"}
    assert round(cost["A"] / 1e9, 3) == 3.644
    assert cost["B"] - cost["A"] == 3 * 56 * 56 * 64 * 128 // 4
    assert cost["C"] - cost["B"] == 13 * 56 * 56 * 64 * 64


def test_plain_nets_cost_what_option_a_costs():
    for name, net in ARCHITECTURES.items():
        if name.startswith("PlainNet"):
            twin = ARCHITECTURES[name.replace("Plain", "Res")]
            assert net.parameters() == twin.parameters(shortcut="A")
            assert net.multiply_adds() == twin.multiply_adds(shortcut="A")


def test_the_table_checks_its_depths():
    with pytest.raises(AssertionError, match="depth of Net must be 22 with these stages; got 20"):
        Architecture("Net", 20, "cifar", "basic", (Stage(16, 10, 1),), "A", 32, 10)


def test_the_module_prints_every_network():
    command = [sys.executable, "-m", "keras_resnet.models.architectures"]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert len(table.splitlines()) == 2 + len(ARCHITECTURES)
    assert "| ResNet50 | 224 | bottleneck | 3, 4, 6, 3 | B | 25,557,032 | 3.858e9 |" in table
