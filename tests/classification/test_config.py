"""Configurations: JSON, validation, flags."""

import dataclasses
import json

import pytest
from absl import flags as absl_flags

from keras_resnet.classification.config import PRESETS, ClassifierConfig
from keras_resnet.classification.run import ClassifierRun, unique_names
from keras_resnet.cli import flags
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
        ({"warmup_steps": 40_000}, "warmup_steps must be below the first of decay_steps; got 40000"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\); got 1.0"),
        ({"loss": "mse"}, "loss must be one of 'cross_entropy', 'binary_cross_entropy'; got 'mse'"),
        ({"ema": 0.9, "swa_start": 5}, "ema excludes swa_start; give one of them"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate must be in \[0, 1\); got 1.0"),
        ({"ema": 1.0}, r"ema must be in \[0, 1\); got 1.0"),
        ({"freeze_stages": 6}, "freeze_stages must be from 0 to 5; got 6"),
        ({"accumulate": 3}, "batch_size must be a multiple of accumulate, 3; got 128"),
        ({"steps_per_execution": 30}, "steps must be a multiple of steps_per_execution, 30; got 64000"),
        ({"steps_per_execution": 10, "ema": 0.9}, "ema_steps must be a multiple of steps_per_execution, 10; got 1"),
        ({"warmup_error": 80.0, "warmup_steps": 400}, "warmup_error excludes warmup_steps and schedule=cosine"),
        ({"momentum": 1.5}, r"momentum must be in \[0, 1\); got 1.5"),
        ({"seed": 2**32}, "seed must be from 0 to 4294967295; got 4294967296"),
        ({"scales": (256,)}, r"scales must be two numbers, the smallest and the largest; got \[256\]"),
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
        ({"steps": "abc"}, "steps must be of the kind of 64000"),
        ({"decay_steps": 5}, "decay_steps"),
    ):
        with pytest.raises(InputError, match=message):
            ClassifierConfig.from_dict(values)
    assert ClassifierConfig.from_dict({"learning_rate": 1, "decay_steps": [5], "data_dir": None}).decay_steps == (5,)
    (tmp_path / "config.json").write_text(ClassifierConfig().to_json())
    with pytest.raises(InputError, match=r"workdir must be the folder of a run; '.*' knows of no data set"):
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


def from_flags(*arguments):
    values = absl_flags.FlagValues()
    absl_flags.DEFINE_string("preset", None, "", flag_values=values)
    absl_flags.DEFINE_string("config", None, "", flag_values=values)
    flags.define(values)
    flags.parse(values, ["program", *arguments])
    return flags.config(values)


def test_every_field_has_a_flag_that_sets_it():
    values = {
        bool: lambda old: ("false" if old else "true", not old),
        int: lambda old: (str(old + 1), old + 1),
        float: lambda old: (str(old / 2 + 0.01), old / 2 + 0.01),
        tuple: lambda old: ("7,9", (7, 9)),
        str: lambda old: ("something", "something"),
        type(None): lambda old: ("folder", "folder"),
    }
    choices = {
        "average": "trained",
        "crop": "scale",
        "precision": "mixed_bfloat16",
        "optimizer": "lamb",
        "schedule": "cosine",
        "shortcut": "C",
        "loss": "binary_cross_entropy",
        "freeze_stages": 1,
    }
    for field in dataclasses.fields(ClassifierConfig):
        text, expected = values[type(field.default)](field.default)
        if field.name in choices:
            expected = choices[field.name]
            text = str(expected)
        arguments = [f"--{field.name}={text}", *(["--batch_size=2"] if field.name == "accumulate" else [])]
        assert getattr(from_flags(*arguments), field.name) == expected


def test_flags_override_the_preset():
    config = from_flags("--preset=digits_resnet20", "--steps=5")
    assert config == dataclasses.replace(PRESETS["digits_resnet20"], steps=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stepz=3"], "Unknown command line flag 'stepz'"),
        (["--steps=many"], "steps"),
        (["--decay_steps=1,x"], "decay_steps must be a list of integers"),
        (["--preset=imagenet"], r"preset must be one of digits_resnet20, cifar10_resnet20, .*; got 'imagenet'"),
        (["--preset=digits_resnet20", "--config=a.json"], "preset and config exclude each other"),
    ],
)
def test_bad_flags(arguments, message):
    with pytest.raises(ValueError, match=message):
        from_flags(*arguments)
