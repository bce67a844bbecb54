"""Shared by all tests: quiet TensorFlow, a fixed seed, and the folder of optional real data."""

import gc
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import pathlib
import runpy
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
DATA = pathlib.Path(os.environ.get("KERAS_RESNET_TEST_DATA", "../shared/data"))

KERAS_2 = importlib.metadata.version("keras").startswith("2.")
READABLE = "JPEG, PNG, GIF or BMP" if KERAS_2 else "JPEG, PNG, GIF, BMP or WebP"
"""What files must be; TensorFlow 2.15 does not read WebP."""

NOT_ON_KERAS_2 = {
    "backends": "Keras 2 has no other backend than TensorFlow",
    "models/test_recomputation.py": "recompute requires keras.remat",
    "distribute/test_strategy.py": "about how Keras 3 trains on several replicas",
    "distribute/test_collectives.py": "about the correction of Keras 3; test_addons.py has two workers",
    "classification/test_config_effects.py": "fields that need layers of Keras 3 are refused",
    "test_benchmarks.py": "measures the main stack",
    "test_docs.py": "the docs are executed on the main stack",
    "test_examples.py": "scripts for the main stack",
    "test_scripts.py": "scripts for the main stack",
    "field/test_loading.py::test_a_loaded_optimizer_trains_as_the_saved_one": "files forget slow variables",
    "models/test_features.py::test_mistakes_in_the_constructor": "recompute requires keras.remat",
    "data/test_pipeline.py::test_mixing_by_hand": "MixUp and CutMix are layers of Keras 3",
    "models/test_layers.py::test_replicas_keep_one_set_of_statistics": "Keras 2 averages them when they are read",
    "models/test_resnet.py::test_signature_is_that_of_keras_applications": "Keras 2 has `**kwargs` there",
    "ops/test_boxes.py::test_iou_is_keras": "Keras 2 has no boxes to compare with",
    "ops/test_boxes.py::test_deltas_are_kerass": "Keras 2 has no boxes to compare with",
    "ops/test_codecs.py::test_animated_webp_is_refused_before_it_is_decoded": "TensorFlow 2.15 reads no WebP",
    "serving/test_saved_model.py::test_the_recipe_that_fails_in_tf_serving_fails_in_the_replay": "Keras 3's recipe",
    "serving/test_signatures.py::test_keras_own_export_has_stable_names_too": "about `model.export` of Keras 3",
    "serving/test_signatures.py::test_damaged_images": "its files are WebP too, which TensorFlow 2.15 does not read",
    "test_package.py::test_networks_bring_nothing_but_keras": "Keras 2 brings TensorFlow",
    "classification/test_pretrained.py::test_what_a_file_does_not_define_is_required": "Keras 2 writes no such file",
    "classification/test_train.py::test_a_batch_in_parts_is_the_same_batch": "accumulate needs Keras 3",
    "training/test_optimizers.py::test_equals_the_rule_of_keras": "about an operation that is used with Keras 3",
    "training/test_optimizers.py::test_accumulated_gradients_are_averaged": "accumulate needs Keras 3",
    "training/test_optimizers.py::test_an_overflow_in_float16_counts_as_a_step": "about the loss scaling of Keras 3",
}
"""Tests that do not apply to Keras 2 and TensorFlow 2.15, and why: files and folders here, or single tests."""

SAME_ON_KERAS_2 = {
    "test_language.py": "reads texts",
    "test_layering.py": "reads sources",
    "test_manifest.py": "writes files only",
    "cli/test_flags.py": "parses flags only",
    "cli/test_main.py": "the verbs call evaluation and serving, which have tests of their own",
    "classification/test_config.py": "has no network",
    "classification/test_train.py::test_a_corrected_command_runs": "about what is checked before training",
    "data/test_idx.py": "reads files with NumPy",
    "data/test_pipeline.py::test_30_broken_files_of_3000": "decoding is in ops/test_codecs.py",
    "data/test_pipeline.py::test_batches_have_static_shapes_and_types": "the graphs are built as on Keras 3",
    "data/test_pipeline.py::test_evaluation_sees_each_image_once": "arithmetic of indices",
    "data/test_pipeline.py::test_every_switch_of_the_view_does_something": "data/test_transforms.py has them",
    "data/test_pipeline.py::test_two_processes_yield_the_same_batches": "the graphs are built as on Keras 3",
    "data/test_sources.py": "has no network",
    "detection/test_anchors.py": "computes with NumPy",
    "detection/test_average_precision.py": "computes with NumPy",
    "detection/test_config.py": "has no network",
    "detection/data": "test_train.py and test_task.py read the same data",
    "distribute/test_launch.py": "starts processes without TensorFlow",
    "evaluation/test_metrics.py": "computes with NumPy",
    "evaluation/test_report.py": "draws with matplotlib",
    "evaluation/test_scores.py": "reads and writes files",
    "experiment/test_tasks.py": "a run without layers of its own",
    "field/test_annotations.py": "reads and writes files",
    "field/test_command.py": "tests of the command are in the wings",
    "field/test_folders.py": "reads and writes files",
    "localization/data": "test_train.py and test_task.py read the same data",
    "localization/test_metrics.py": "computes with NumPy",
    "localization/test_pictures.py": "draws with Pillow",
    "models/test_architectures.py": "computes from tables",
    "models/test_class_names.py": "compares names",
    "models/test_costs.py": "computes from tables",
    "models/weights/test_published.py": "downloads files",
    "ops/test_masks.py": "computes with NumPy",
    "segmentation/data": "test_train.py and test_task.py read the same data",
    "paper": "trains and evaluates as classification and evaluation do",
    "serving/test_publish.py": "moves files",
    "serving/test_server.py::test_the_client_reports_a_missing_server": "a client without Keras",
    "serving/test_server.py::test_the_client_reports_another_server": "a client without Keras",
    "serving/test_server.py::test_the_example_client": "a client without Keras",
}
"""Tests that would show nothing new on Keras 2: they do not reach Keras, or others show it there, and which."""


def pytest_ignore_collect(collection_path):
    """Leave out whole files on Keras 2; None leaves the decision to others."""
    path = collection_path.relative_to(pathlib.Path(__file__).parent).as_posix() if KERAS_2 else ""
    return True if path in NOT_ON_KERAS_2 | SAME_ON_KERAS_2 else None


def pytest_collection_modifyitems(items):
    """Skip single tests on Keras 2."""
    reasons = NOT_ON_KERAS_2 | SAME_ON_KERAS_2
    for item in items if KERAS_2 else ():
        name = item.nodeid.split("[")[0].removeprefix("tests/")
        if name in reasons:
            item.add_marker(pytest.mark.skip(reason=reasons[name]))


def pytest_configure(config):
    """Split the CPU in two logical devices, for tests of replicas; TensorFlow allows it before its first use only."""
    if config.getoption("numprocesses", None):
        return  # the workers of pytest-xdist do it
    if importlib.util.find_spec("tensorflow"):
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    # Tracing makes so many objects that looking for garbage among them as often as by default takes a fifth of a run.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(trylast=True)  # after the fixtures
def pytest_runtest_teardown(item, nextitem):
    """Free what the tests of a module leave, since with these thresholds little of it is found before.

    What then remains, such as the functions that Keras has traced, is not searched again.
    """
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def two_replicas():
    """A MirroredStrategy of two replicas on this machine's CPU; one for all tests, as two mix up their collectives."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(scope="module")
def one_block_resnet20():
    """Replace ResNet-20 by a network of one block, so that a run takes seconds."""
    from keras_resnet.models import resnet
    from tests.networks import one_block

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.CONSTRUCTORS, "resnet20", one_block)
        yield


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
def script(monkeypatch, capfd):
    """Run a script of the repository in this process, which has TensorFlow already; return its output, both streams."""
    from absl import flags

    def call(path, *arguments, code=0):
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", [str(ROOT / path), *map(str, arguments)])
        monkeypatch.setattr(logging.root, "handlers", [*logging.root.handlers])  # absl's app adds one
        known, found = set(flags.FLAGS), None
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as exit:
            found = exit.code
        for name in set(flags.FLAGS) - known:  # the next script defines its own
            delattr(flags.FLAGS, name)
        # Python prints a text that is the code, and exits with 1.
        message = found if isinstance(found, str) else ""
        output = "".join(capfd.readouterr()) + message
        assert (1 if message else found or 0) == code, output
        return output

    return call


@pytest.fixture
def without_curves(monkeypatch):
    """Do not draw the learning curves of runs, which takes as long as the steps of short ones."""
    from keras_resnet.training.callbacks import Curves

    monkeypatch.setattr(Curves, "on_epoch_end", lambda self, epoch, logs=None: None)


@pytest.fixture(scope="module")
def short_timing():
    """Time the networks of a report for moments only, for tests that do not compare times."""
    from keras_resnet.serving import report

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "ROUNDS", 2)
        patch.setattr(report, "ROUND_SECONDS", 0.01)
        yield


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def real_data():
    """The folder of real data sets; tests that want it are skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"needs the real data of KERAS_RESNET_TEST_DATA; {DATA} is absent")
    return DATA
