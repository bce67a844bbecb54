"""Shared by all tests: quiet TensorFlow, a fixed seed, and the folder of optional real data."""

import importlib
import importlib.util
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

import numpy as np
import pytest

DATA = pathlib.Path(os.environ.get("KERAS_RESNET_TEST_DATA", "../shared/data"))


def pytest_configure():
    """Split the CPU in two logical devices, for tests of replicas; TensorFlow allows it before its first use only."""
    if importlib.util.find_spec("tensorflow"):
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture
def two_replicas():
    """A MirroredStrategy of two replicas on this machine's CPU."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(scope="module")
def small_networks():
    """Cut every network to one block a stage and few filters, under its own name, for tests of what uses them.

    Depths are told apart by the filters of the last stage.
    """
    from keras_resnet.models.architectures import ARCHITECTURES, EXPANSION

    importlib.import_module("keras_resnet.models.resnet")  # before: its docstrings have the networks' numbers
    whole = {name: net.stages for name, net in ARCHITECTURES.items()}
    depths = sorted({net.depth for net in ARCHITECTURES.values()})
    for net in ARCHITECTURES.values():
        first = net.stages[0].filters if net.stem == "cifar" else 64 // EXPANSION[net.block]
        stages = [stage._replace(filters=first, blocks=1) for stage in net.stages]
        stages[-1] = stages[-1]._replace(filters=first + 4 * depths.index(net.depth))
        # The constructors, the detectors' backbones and the tables of costs share these objects.
        object.__setattr__(net, "stages", tuple(stages))
    yield
    for name, net in ARCHITECTURES.items():
        object.__setattr__(net, "stages", whole[name])


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def real_data():
    """The folder of real data sets; tests that want it are skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"needs the real data of KERAS_RESNET_TEST_DATA; {DATA} is absent")
    return DATA


@pytest.fixture(scope="session")
def trained_detector():
    """A small detector after 200 steps on 16 synthetic pictures."""
    import keras
    import tensorflow as tf

    from tests.detection.scenes import scenes, tiny

    keras.utils.set_random_seed(0)
    model = tiny()
    model.compile(keras.optimizers.Adam(2e-3), jit_compile=False)
    batches = tf.data.Dataset.from_tensor_slices(scenes(16, 0)).repeat().batch(8)
    model.fit(batches, steps_per_epoch=200, verbose=0, shuffle=False)
    return model
