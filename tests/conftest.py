"""Shared by all tests: quiet TensorFlow, a fixed seed, and the folder of optional real data."""

import fcntl
import gc
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import pathlib
import pickle
import runpy
import shutil
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
# Elsewhere, each conversion by OpenVINO forks this process to report it over the network.
os.environ["CI"] = "true"

import numpy as np
import pytest

from keras_resnet import files

ROOT = pathlib.Path(__file__).parent.parent
DATA = pathlib.Path(os.environ.get("KERAS_RESNET_TEST_DATA", "../shared/data"))

KERAS_2 = importlib.metadata.version("keras").startswith("2.")
READABLE = "JPEG, PNG, GIF or BMP" if KERAS_2 else "JPEG, PNG, GIF, BMP or WebP"
"""What files must be; TensorFlow 2.15 does not read WebP."""

ON_KERAS_2 = {
    "classification/test_evaluate.py": "networks of exports",
    "classification/test_pretrained.py": "reads and writes files of weights",
    "classification/test_train.py::test_evaluations_and_files": "trains",
    "classification/test_train.py::test_fit_with_another_network_and_images_in_memory": "trains a model of Keras",
    "classification/test_train.py::test_not_a_number_is_not_among_the_best_weights": "callbacks of fit",
    "classification/test_train.py::test_other_recipes_run_and_resume[float16, warm-up by error]": "loss scaling",
    "data/test_augmentations.py": "operations of TensorFlow 2.15, and layers",
    "data/test_pipeline.py::test_in_evaluation_a_broken_or_missing_file_is_an_error_that_names_it": "tf.data of 2.15",
    "data/test_pipeline.py::test_in_place_of_a_broken_file_stands_another_of_its_batch": "the same",
    "data/test_transforms.py": "operations of TensorFlow 2.15",
    "detection/test_export.py::test_saved_model_has_the_signature_of_the_object_detection_api": "exports",
    "detection/test_export.py::test_saved_model_takes_encoded_images_of_different_sizes": "exports",
    "detection/test_faster_rcnn.py::test_backbone_weights_are_loaded_by_layer_name": "a model of models",
    "detection/test_faster_rcnn.py::test_batch_norm_and_early_stages_stay_bit_by_bit": "a training step of its own",
    "detection/test_faster_rcnn.py::test_every_trained_variable_gets_a_gradient": "a training step of its own",
    "detection/test_faster_rcnn.py::test_half_precision_keeps_boxes_in_float32": "policies",
    "detection/test_faster_rcnn.py::test_regions_are_those_of_conv5_with_its_stride": "submodels",
    "detection/test_faster_rcnn.py::test_saved_and_loaded": "a model of models",
    "detection/test_nms.py": "operations of TensorFlow 2.15",
    "detection/test_roi.py": "operations of TensorFlow 2.15",
    "evaluation/test_batch_norm.py": "layers",
    "evaluation/test_dense.py": "layers",
    "evaluation/test_ensemble.py::test_an_ensemble_is_the_average": "several models",
    "experiment/test_run.py": "reads runs of older versions",
    "field/test_loading.py::test_any_integral_type_is_an_integer": "saved models",
    "field/test_loading.py::test_classes_are_registered_in_any_order_of_imports": "saved models",
    "field/test_loading.py::test_every_registered_class_has_a_placeholder": "saved models",
    "field/test_loading.py::test_fit_refuses_a_model_that_does_not_fit_the_data": "models of Keras",
    "field/test_loading.py::test_pure_policies_predict_and_train[{}-float16]": "policies",
    "field/test_weights.py": "reads and writes files of weights",
    "models/test_blocks.py": "layers",
    "models/test_features.py::test_a_pyramid_learns": "submodels",
    "models/test_features.py::test_they_are_the_maps_of_the_network": "submodels",
    "models/test_features.py::test_weights_saved_and_loaded": "submodels",
    "models/test_grad_cam.py::test_of_the_last_stage_it_is_the_class_activation_map": "submodels",
    "models/test_layers.py": "layers",
    "models/test_resnet.py::test_a_saved_model_file_loads_in_keras": "models",
    "models/test_resnet.py::test_built_networks_are_those_of_the_tables": "models",
    "models/test_resnet.py::test_computes_what_keras_applications_computes": "models",
    "models/test_resnet.py::test_every_trainable_weight_gets_a_gradient[ResNet20]": "models",
    "models/test_resnet.py::test_input_tensor": "models",
    "models/test_resnet.py::test_layer_names_are_those_of_keras_applications": "models",
    "models/test_resnet.py::test_the_initialization_of_the_paper": "initializers",
    "models/test_resnet.py::test_without_top": "models",
    "models/test_submodels.py": "submodels",
    "models/test_to_keras.py": "saved models without the package",
    "models/weights/test_convert.py": "reads and writes files of weights",
    "models/weights/test_files.py": "the same",
    "models/weights/test_namings.py": "the same",
    "models/weights/test_readers.py": "the same",
    "models/weights/test_spec.py": "the same",
    "ops/test_boxes.py": "operations of TensorFlow 2.15",
    "ops/test_codecs.py::test_animations_give_their_first_frame": "decoders of TensorFlow 2.15",
    "ops/test_codecs.py::test_decoding_a_window_equals_decoding_all": "the same",
    "ops/test_codecs.py::test_exif_orientation": "the same",
    "ops/test_codecs.py::test_formats_read_as_pillow_reads_them": "the same",
    "ops/test_codecs.py::test_read_says_what_is_wrong": "the same",
    "ops/test_graph_errors.py": "operations of TensorFlow 2.15",
    "ops/test_image.py": "the same",
    "ops/test_windows.py": "the same",
    "segmentation/test_export.py": "exports",
    "segmentation/test_losses.py": "losses and replicas",
    "segmentation/test_models.py::test_auxiliary_head_is_for_training_only": "models",
    "segmentation/test_models.py::test_backbone_by_name_architecture_or_constructor": "models",
    "segmentation/test_models.py::test_logits_have_the_size_of_any_image": "models",
    "segmentation/test_models.py::test_weights_and_models_are_saved_and_loaded": "models",
    "segmentation/test_pretrained.py::test_a_file_that_does_not_fit_changes_nothing": "reads files of weights",
    "segmentation/test_train.py::test_an_interrupted_run_resumes_exactly": "trains and resumes",
    "segmentation/test_train.py::test_backbone_weights_are_loaded_frozen_and_slow": "variables of optimizers",
    "serving/test_folding.py::test_a_worked_example": "layers",
    "serving/test_folding.py::test_folded_networks_compute_the_same": "layers",
    "serving/test_folding.py::test_half_precision_weights": "layers",
    "serving/test_folding.py::test_normalization_folds_into_the_first_convolution": "layers",
    "serving/test_saved_model.py::test_options": "exports",
    "serving/test_saved_model.py::test_the_files_of_a_version": "exports",
    "serving/test_saved_model.py::test_warm_up_requests_replay": "exports",
    "serving/test_signatures.py::test_a_bad_image_is_an_invalid_argument_that_names_the_cause": "exports",
    "serving/test_signatures.py::test_row_by_row": "exports",
    "serving/test_signatures.py::test_the_signatures_of_each_family_compute_the_network[bottleneck]": "exports",
    "serving/test_tflite.py::test_any_batch_size": "exports",
    "serving/test_tflite.py::test_built_in_operators_only": "exports",
    "test_package.py": "imports",
    "test_stacks.py": "compares the stacks",
    "training/test_adaptive.py": "callbacks",
    "training/test_addons.py": "optimizers of tensorflow-addons",
    "training/test_averaging.py": "optimizers",
    "training/test_callbacks.py": "callbacks",
    "training/test_checkpoints.py": "saved states of optimizers",
    "training/test_distillation.py": "a training step of its own",
    "training/test_finetuning.py": "optimizers",
    "training/test_loop.py": "callbacks of fit",
    "training/test_losses.py": "losses",
    "training/test_optimizers.py": "optimizers",
    "training/test_schedules.py": "optimizers",
    "training/test_snapshots.py": "callbacks",
}
"""The files, folders and tests that run on Keras 2 and TensorFlow 2.15, and what of these they touch.

The others would show nothing new there: they compute without Keras, or follow what is tested here.
"""

NOT_ON_KERAS_2 = {
    "models/test_layers.py::test_replicas_keep_one_set_of_statistics": "Keras 2 averages them when they are read",
    "ops/test_boxes.py::test_iou_is_keras": "Keras 2 has no boxes to compare with",
    "ops/test_boxes.py::test_deltas_are_kerass": "Keras 2 has no boxes to compare with",
    "test_package.py::test_networks_bring_nothing_but_keras": "Keras 2 brings TensorFlow",
    "classification/test_pretrained.py::test_what_a_file_does_not_define_is_required": "Keras 2 writes no such file",
    "training/test_optimizers.py::test_equals_the_rule_of_keras": "about an operation that is used with Keras 3",
    "training/test_optimizers.py::test_accumulated_gradients_are_averaged": "accumulate needs Keras 3",
    "training/test_optimizers.py::test_accumulation_without_merging_replicas": "the same",
    "training/test_optimizers.py::test_micro_batches_that_overflow_in_float16": "the same",
    "training/test_optimizers.py::test_an_overflow_in_float16_counts_as_a_step": "about the loss scaling of Keras 3",
}
"""Tests of these files that do not apply to Keras 2, and why."""


def _place(path):
    return path.relative_to(pathlib.Path(__file__).parent).as_posix()


def _runs_on_keras_2(name):
    """Return whether a test such as "a/test_b.py::test_c[d]" is, or is in, something of `ON_KERAS_2`."""
    return any(name == entry or name.startswith((f"{entry}/", f"{entry}::", f"{entry}[")) for entry in ON_KERAS_2)


def pytest_ignore_collect(collection_path):
    """Leave out whole files on Keras 2; None leaves the decision to others."""
    if not KERAS_2 or collection_path.suffix != ".py":
        return None
    place = _place(collection_path)
    return None if _runs_on_keras_2(place) or any(entry.startswith(f"{place}::") for entry in ON_KERAS_2) else True


def pytest_collection_modifyitems(config, items):
    """Leave out single tests on Keras 2, and skip those that do not apply to it."""
    if not KERAS_2:
        return
    names = {item: f"{_place(item.path)}::{item.name}" for item in items}
    config.hook.pytest_deselected(items=[item for item in items if not _runs_on_keras_2(names[item])])
    items[:] = [item for item in items if _runs_on_keras_2(names[item])]
    for item in items:
        if reason := NOT_ON_KERAS_2.get(names[item].split("[")[0]):
            item.add_marker(pytest.mark.skip(reason=reason))


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
def once(tmp_path_factory):
    """Return the result of a function that only one of the workers of pytest-xdist calls; the others wait for it."""
    in_parallel = "PYTEST_XDIST_WORKER" in os.environ
    folder = tmp_path_factory.getbasetemp().parent if in_parallel else tmp_path_factory.mktemp("once")

    def call(name, function):
        with open(folder / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = folder / f"{name}.pickle"
            if not path.exists():
                files.write(path, pickle.dumps(function()))
            return pickle.loads(path.read_bytes())

    return call


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


@pytest.fixture(scope="module")
def browser():
    """Chromium under Playwright, with a camera that shows a test picture."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="extra [test]")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed")
    options = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=options)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """Return a function that opens a page, which must write nothing to the console and request nothing from elsewhere.

    Its arguments are the address, those of Playwright's `new_page`, and of how the addresses begin that the page may
    request. The page must fit its width.
    """
    opened = []

    def call(address, own=("data:", "file:"), **options):
        tab, events = browser.new_page(**options), []
        tab.on("console", lambda message: events.append(message.text) if message.type != "debug" else None)
        tab.on("pageerror", lambda error: events.append(str(error)))
        tab.on("request", lambda sent: events.append(sent.url) if not sent.url.startswith(own) else None)
        opened.append((tab, events))
        tab.goto(address)
        return tab

    yield call
    for tab, events in opened:
        width = tab.viewport_size["width"]
        assert tab.evaluate("document.documentElement.scrollWidth") == width, "nothing is cut off at the right"
        assert events == [], "no messages but those for debugging, and no request to another address"
        tab.close()


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
