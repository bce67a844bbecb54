"""Runs that train for an int8 file resume bit by bit, leave the float run as it is, and export what they learned."""

import dataclasses
import json

import numpy as np
import pytest

from keras_resnet import errors, files
from keras_resnet.classification import evaluate, train
from keras_resnet.classification.config import PRESETS
from keras_resnet.classification.task import Export
from keras_resnet.data import pipeline, sources
from keras_resnet.quantization.integer import is_integer
from keras_resnet.serving import tflite
from tests.classification.small_runs import CONFIG
from tests.runs import assert_equal, signal_at, variables_of

pytestmark = pytest.mark.usefixtures("one_block_resnet20", "without_curves")

FLOAT = dataclasses.replace(CONFIG, precision="float32", mixup=0.0, pca_noise=0.0, ema=0.0, warmup_steps=0)


@pytest.fixture(scope="module")
def float_run(one_block_resnet20, tmp_path_factory):
    """A trained float network."""
    return train.train(FLOAT, tmp_path_factory.mktemp("runs") / "float")


def config_of(float_run, **options):
    """The configuration of a run for int8 that starts from another."""
    return dataclasses.replace(
        FLOAT,
        **{
            "init_weights": str(float_run.path),
            "new_head": False,
            "teacher": str(float_run.path),
            "quantize": "int8",
            "steps": 6,
            "decay_steps": (),
            "eval_steps": 3,
            "ema": 0.9,
            **options,
        },
    )


@pytest.fixture(scope="module")
def int8_run(float_run, tmp_path_factory):
    """A run for int8 that starts from the float network, with it as its teacher."""
    return train.train(config_of(float_run), tmp_path_factory.mktemp("runs") / "int8")


def test_it_resumes_bit_by_bit_and_the_float_run_is_untouched(float_run, int8_run, tmp_path):
    before = {path: files.digest(path) for path in float_run.path.rglob("*") if path.is_file()}
    with signal_at(4), pytest.raises(errors.Stopped):
        train.train(config_of(float_run), tmp_path)
    run = train.train(config_of(float_run), tmp_path)
    assert_equal(variables_of(run), variables_of(int8_run))
    assert before == {path: files.digest(path) for path in float_run.path.rglob("*") if path.is_file()}


def test_the_loaded_network_is_that_of_the_file(int8_run, tmp_path):
    dataset = sources.load(FLOAT.dataset)
    out = tflite.export(
        int8_run,
        tmp_path / "out",
        dataset=dataset,
        variants=tflite.ALL_VARIANTS,
        report_split="test",
        report_images=40,
        calibration_images=30,
    )
    rows = {row["variant"]: row for row in json.loads((out / "report.json").read_text())}
    assert set(rows) == {"original", *tflite.ALL_VARIANTS}
    assert rows["int8"]["agreement"] == 100.0
    assert rows["int8"]["difference"] <= 1.001 / 256
    assert rows["int8"]["megabytes"] < rows["float32"]["megabytes"]
    assert is_integer(int8_run.load())
    assert not is_integer(int8_run.load_float())
    images, _ = next(iter(pipeline.evaluate(dataset, 40, int8_run.eval_transform(), split="test[:40]")))
    scores, expected = (model.predict_on_batch(images) for model in (int8_run.load(), int8_run.load_float()))
    assert 0 < np.abs(scores - expected).max() < 0.1


def test_evaluation_measures_the_integers(int8_run):
    config = evaluate.EvalConfig()
    error = evaluate.evaluate([int8_run], config, split=FLOAT.eval_split).rows[0].result.top1_error
    dataset = sources.load(FLOAT.dataset)
    wrong = []
    model = int8_run.load()
    for images, labels in pipeline.evaluate(dataset, 64, int8_run.eval_transform(), split=FLOAT.eval_split):
        wrong.append(model.predict_on_batch(images).argmax(1) != labels.numpy())
    assert abs(error - 100 * np.mean(np.concatenate(wrong))) < 1e-6
    with pytest.raises(errors.InputError, match="recalibrate must be 0 for a run with quantize"):
        evaluate.evaluate([int8_run], dataclasses.replace(config, recalibrate=32))


def test_weights_of_four_bits(float_run, tmp_path):
    run = train.train(config_of(float_run, quantize="int4", teacher="", steps=3), tmp_path)
    kernels = [layer.integers for layer in run.load().layers if getattr(layer, "weight_bits", 8) == 4]
    assert kernels
    assert max(np.abs(kernel).max() for kernel in kernels) <= 7


REFUSED = {
    "half precision": ({"precision": "mixed_bfloat16"}, "precision must be float32 with quantize"),
    "a mean of each pixel": ({"pixel_mean": True}, "pixel_mean must be off with quantize"),
    "stochastic depth": ({"drop_path_rate": 0.1}, "drop_path_rate must be off with quantize"),
    "an unknown kind": ({"quantize": "int7"}, "quantize must be one of"),
    "recomputation with a teacher": ({"quantize": "", "recompute": True}, "recompute must be off with teacher"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case, float_run):
    options, message = REFUSED[case]
    with pytest.raises(errors.InputError, match=message):
        config_of(float_run, **options)


def test_random_weights_are_not_trained_for_int8(float_run, tmp_path):
    with pytest.raises(errors.InputError, match="quantize requires init_weights, such as the folder"):
        train.train(config_of(float_run, init_weights="", teacher=""), tmp_path)


def test_the_presets():
    presets = {name: config for name, config in PRESETS.items() if config.quantize}
    assert {name.removesuffix("_int8") for name in presets} < set(PRESETS)
    assert all(name.endswith("_int8") and not config.new_head for name, config in presets.items())


def test_a_teacher_of_other_classes(float_run, tmp_path):
    config = dataclasses.replace(FLOAT, dataset="synthetic:8x8x3", steps=2, decay_steps=())
    other = train.train(config, tmp_path / "other")
    with pytest.raises(errors.InputError, match="teacher must be a run of the same 4 classes"):
        train.train(config_of(float_run, teacher=str(other.path)), tmp_path / "run")


def test_a_float_run_has_no_other_int8(float_run, tmp_path):
    with pytest.raises(errors.InputError, match="for a run without quantize"):
        tflite.export(float_run, tmp_path / "out", variants=("post_training_int8",))


def test_the_command_knows_the_variants():
    assert set(tflite.ALL_VARIANTS) == set(Export.__dataclass_fields__["variants"].metadata["choices"])
