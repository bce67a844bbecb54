"""Configurations of classifiers: JSON, validation, presets."""

import dataclasses
import json

import pytest

from keras_resnet.classification.config import PRESETS, ClassifierConfig
from keras_resnet.classification.run import ClassifierRun, unique_names
from keras_resnet.errors import InputError


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip(name, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(PRESETS[name].to_json())
    assert ClassifierConfig.from_file(path) == PRESETS[name]
    path.write_text(json.dumps({"config": dataclasses.asdict(PRESETS[name])}))
    assert ClassifierConfig.from_file(path) == PRESETS[name]


def test_the_paper_recipe():
    """Section 4.2."""
    config = PRESETS["cifar10_resnet20"]
    assert (config.batch_size, config.steps, config.decay_steps) == (128, 64_000, (32_000, 48_000))
    assert (config.learning_rate, config.momentum, config.weight_decay) == (0.1, 0.9, 1e-4)
    assert (config.pad, config.mirror) == (4, True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"learning_rate": -0.1}, "learning_rate must be 0 or more; got -0.1"),
        ({"decay_steps": (3, 2)}, r"decay_steps must increase; got \[3, 2\]"),
        ({"optimizer": "adam"}, "optimizer must be one of 'sgd', .* or 'tfa:CLASS'; got 'adam'"),
        ({"schedule": "cosine", "steps": 5, "warmup_steps": 5}, "warmup_steps must be below steps, 5; got 5"),
        ({"warmup_steps": 40_000}, "warmup_steps must be below the first of decay_steps, 32000; got 40000"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\); got 1.0"),
        ({"loss": "mse"}, "loss must be one of 'cross_entropy', 'binary_cross_entropy'; got 'mse'"),
        ({"ema": 0.9, "swa_start": 5}, "ema excludes swa_start; set only one of them"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate must be in \[0, 1\); got 1.0"),
        ({"ema": 1.0}, r"ema must be in \[0, 1\); got 1.0"),
        ({"freeze_stages": 6}, "freeze_stages must be from 0 to 5; got 6"),
        ({"accumulate": 3}, "batch_size must be a multiple of accumulate, 3; got 128"),
        ({"steps_per_execution": 30}, "steps must be a multiple of steps_per_execution, 30; got 64000"),
        ({"steps_per_execution": 10, "ema": 0.9}, "ema_steps must be a multiple of steps_per_execution, 10; got 1"),
        ({"warmup_error": 80.0, "warmup_steps": 400}, "warmup_error excludes warmup_steps and schedule=cosine"),
        ({"momentum": 1.5}, r"momentum must be in \[0, 1\); got 1.5"),
        ({"seed": 2**32}, "seed must be from 0 to 4294967295; got 4294967296"),
        ({"scale_range": (256,)}, r"scale_range must be two numbers, the smallest and the largest; got \[256\]"),
        ({"warmup_error": 80.0, "learning_rate": 0.0}, "learning_rate must be above 0 with warmup_error; got 0"),
        ({"precision": "int8"}, "precision must be one of 'float32', 'mixed_bfloat16', 'mixed_float16'; got 'int8'"),
    ],
)
def test_bad_values(values, message):
    with pytest.raises(ValueError, match=message):
        ClassifierConfig(**values)


def test_unknown_fields_and_files(tmp_path):
    with pytest.raises(ValueError, match=r"unknown fields \['depth'\]"):
        ClassifierConfig.from_dict({"depth": 20})
    for values, message in (
        ({"steps": "abc"}, "steps must be a whole number; got 'abc'"),
        ({"decay_steps": 5}, "decay_steps"),
    ):
        with pytest.raises(InputError, match=message):
            ClassifierConfig.from_dict(values)
    for values in ({"steps": True}, {"mirror": 1}, {"decay_steps": 5}, {"data_dir": 3}):
        with pytest.raises(InputError, match=f"{next(iter(values))} must be"):
            ClassifierConfig.from_dict(values)
    with pytest.raises(InputError, match="did you mean 'learning_rate'"):
        ClassifierConfig.from_dict({"learnign_rate": 1})
    assert ClassifierConfig.from_dict({"learning_rate": 1, "decay_steps": [5], "data_dir": None}).decay_steps == (5,)
    (tmp_path / "config.json").write_text(ClassifierConfig().to_json())
    with pytest.raises(InputError, match="without a valid"):
        ClassifierRun.open(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    for name in ("broken.json", "missing.json"):
        with pytest.raises(ValueError, match=f"config file '.*{name}' cannot be read"):
            ClassifierConfig.from_file(tmp_path / name)


def test_names_tell_runs_apart(tmp_path):
    def run(path, model="resnet20"):
        return ClassifierRun(tmp_path / path, ClassifierConfig(model=model), None)

    runs = [run("short/r20"), run("long/r20"), run("long/r20_again"), run("long/r56", "resnet56")]
    assert unique_names(runs) == ["resnet20 (short/r20)", "resnet20 (long/r20)", "resnet20 (r20_again)", "resnet56"]
    with pytest.raises(InputError, match=r"each network must be given once; '.*/long/r20' is given 2 times\."):
        unique_names([*runs, run("short/../long/r20")])
