"""The public names, and that using them costs nothing before they are used."""

import subprocess
import sys

import pytest

import keras_resnet


def test_public_names_exist():
    for name in keras_resnet.__all__:
        assert getattr(keras_resnet, name) is not None
    assert set(keras_resnet.__all__) <= set(dir(keras_resnet))
    with pytest.raises(AttributeError, match="no attribute 'ResNet21'"):
        keras_resnet.ResNet21  # noqa: B018


def test_import_starts_nothing():
    code = "import sys, keras_resnet; print([m for m in ('keras', 'tensorflow', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_networks_bring_nothing_but_keras():
    code = (
        "import sys, keras; before = set(sys.modules); import keras_resnet; keras_resnet.ResNet50; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; print(new - set(sys.stdlib_module_names))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "{'keras_resnet'}\n"


def test_subpackages_are_attributes():
    code = "import keras_resnet; print(keras_resnet.config.PRESETS['cifar10_resnet20'].dataset)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "cifar10\n"
    )
