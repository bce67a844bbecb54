"""Shared by all tests: quiet TensorFlow, a fixed seed, and the folder of optional real data."""

import importlib
import importlib.metadata
import importlib.util
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

import numpy as np
import pytest

DATA = pathlib.Path(os.environ.get("KERAS_RESNET_TEST_DATA", "../shared/data"))

KERAS_2 = importlib.metadata.version("keras").startswith("2.")
NUMBERS = "about what is done with a network's numbers, which test_stacks.py compares"
NOT_ON_KERAS_2 = {
    "jax": "Keras 2 has no JAX",
    "data": "there is no Keras in it, but for the layers that Keras 2 lacks",
    "ops": "there is no Keras in it",
    "detection": "there is no Keras in its parts; test_stacks.py has a detector",
    "serving": "there is no Keras around what is exported, which test_stacks.py runs",
    "evaluation/test_analysis.py": NUMBERS,
    "evaluation/test_commands.py": NUMBERS,
    "evaluation/test_ensemble.py": NUMBERS,
    "evaluation/test_report.py": NUMBERS,
    "evaluation/test_scores.py": NUMBERS,
    "evaluation/test_views.py": NUMBERS,
    "models/test_layers.py::test_replicas_keep_one_set_of_statistics": "Keras 2 averages them when they are read",
    "models/test_published.py": "there is no Keras in downloads",
    "models/test_recomputation.py": "recompute needs keras.remat",
    "models/test_resnet.py": "builds the deepest networks for minutes; test_stacks.py has one of each family",
    "models/test_weights_formats.py": "PyTorch is not installed there",
    "models/test_weights_hostile.py": "PyTorch is not installed there",
    "test_benchmarks.py": "measures the main stack",
    "test_docs.py": "the docs are executed on the main stack",
    "test_launch.py": "there is no Keras in the launcher",
    "test_pretrained.py": "test_stacks.py has the weights of each family",
    "test_package.py::test_networks_bring_nothing_but_keras": "Keras 2 brings TensorFlow",
    "test_reproduction.py": "it trains by the loop that test_loop.py has",
    "test_scripts.py": "scripts for the main stack, which take minutes",
    "training/test_config_effects.py": "fields that need layers of Keras 3 have no effect",
    "training/test_detection.py": "as the tests of detection",
    "training/test_strategy.py": "about how Keras 3 trains on several replicas",
    "training/test_workers.py": "about the correction of Keras 3; test_addons.py has two workers",
    "training/test_loop.py::test_a_batch_in_parts_is_the_same_batch": "accumulate needs Keras 3",
    "training/test_optimizers.py::test_equals_the_rule_of_keras": "about an operation that is used with Keras 3",
    "training/test_optimizers.py::test_accumulated_gradients_are_averaged": "accumulate needs Keras 3",
    "training/test_optimizers.py::test_an_overflow_in_float16_counts_as_a_step": "about the loss scaling of Keras 3",
}
"""Tests that do not apply to Keras 2 and TensorFlow 2.15, and why: files and folders here, or single tests."""


def pytest_ignore_collect(collection_path):
    """Leave out whole files on Keras 2; None leaves the decision to others."""
    path = collection_path.relative_to(pathlib.Path(__file__).parent).as_posix() if KERAS_2 else ""
    return True if path in NOT_ON_KERAS_2 else None


def pytest_collection_modifyitems(items):
    """Skip single tests on Keras 2."""
    for item in items if KERAS_2 else ():
        name = item.nodeid.split("[")[0].removeprefix("tests/")
        if name in NOT_ON_KERAS_2:
            item.add_marker(pytest.mark.skip(reason=NOT_ON_KERAS_2[name]))


def pytest_configure():
    """Split the CPU in two logical devices, for tests of replicas; TensorFlow allows it before its first use only."""
    if importlib.util.find_spec("tensorflow"):
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture(scope="session")
def two_replicas():
    """A MirroredStrategy of two replicas on this machine's CPU; one for all tests, as two mix up their collectives."""
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
