"""Flags: each field of a configuration has one, and mistakes are named."""

import dataclasses
import os

import pytest

from keras_resnet.classification.config import PRESETS, ClassifierConfig
from keras_resnet.classification.task import TASK
from keras_resnet.cli import flags
from keras_resnet.cli import main as cli
from keras_resnet.cli.train import Train
from keras_resnet.detection.config import PRESETS as DETECTION_PRESETS
from keras_resnet.detection.config import DetectorConfig
from keras_resnet.experiment.tasks import Verb


def config_of(*arguments, task=TASK):
    """The configuration that `train` would use."""
    given, _ = flags.parse(arguments, [Train, task.config])
    return Train().override(given)._base(task).override(given)


CHOICES = {
    "average_weights": "trained",
    "crop": "scale",
    "precision": "mixed_bfloat16",
    "optimizer": "lamb",
    "schedule": "cosine",
    "shortcut": "C",
    "backbone": "resnet50",
    "loss": "binary_cross_entropy",
    "freeze_stages": 1,
    "roi_pooling": "align",
    "training": "alternating",
    "log": ("csv", "mlflow"),
    "quantize": "int8",
}
TOGETHER = {"accumulate": ["--batch_size=2"], "mean": ["--std=7,9,11"], "std": ["--mean=7,9,11"], "min_size": []}


@pytest.mark.parametrize("config", [ClassifierConfig, DetectorConfig])
def test_every_field_has_a_flag_that_sets_it(config):
    values = {
        bool: lambda old: ("false" if old else "true", not old),
        int: lambda old: (str(old + 1), old + 1),
        float: lambda old: (str(old / 2 + 0.01), old / 2 + 0.01),
        str: lambda old: ("something", "something"),
        type(None): lambda old: ("folder", "folder"),
    }
    for field in dataclasses.fields(config):
        if field.name in CHOICES:
            expected = CHOICES[field.name]
            text = ",".join(expected) if isinstance(expected, tuple) else str(expected)
        elif isinstance(field.default, tuple):
            text = "7,9,11" if field.name in ("mean", "std") else "7,9"
            kind = int if "int" in str(field.type) else str if "str" in str(field.type) else float
            expected = tuple(map(kind, text.split(",")))
        else:
            text, expected = values[type(field.default)](field.default)
            expected = os.path.abspath(text) if field.metadata["path"] == "file" else expected
        given, _ = flags.parse([f"--{field.name}={text}", *TOGETHER.get(field.name, [])], [config])
        assert getattr(config().override(given), field.name) == expected, field.name


def test_flags_override_the_preset():
    config = config_of("--preset=digits_resnet20", "--steps=5")
    assert config == dataclasses.replace(PRESETS["digits_resnet20"], steps=5)


def test_flags_may_follow_files():
    assert flags.parse(["a.jpg", "--top=3", "b.jpg"], [TASK.verbs["predict"]]) == ({"top": 3}, ["a.jpg", "b.jpg"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stepz=3"], "unknown flag --stepz (did you mean 'steps'?)"),
        (["--steps=many"], "steps must be a whole number; got 'many'."),
        (["--learning_rate=fast"], "learning_rate must be a number; got 'fast'."),
        (["--mirror=maybe"], "mirror must be true or false; got 'maybe'."),
        (["--decay_steps=1,x"], "decay_steps must be a list of integers such as 224,256; got '1,x'"),
        (["--preset=imagenet"], "; got 'imagenet'"),
        (["--preset=bccd_resnet5"], "got 'bccd_resnet5' (did you mean 'bccd_resnet50'?)"),
        (["--preset=digits_resnet20", "--config=a.json"], "only one of preset and config may be given; got both"),
        (["--task=segmentatio"], "task must be one of 'classification', 'detection'"),
        (["--data=a", "--dataset=digits"], "only one of data and dataset may be given; got both"),
        (["--preset=digits_resnet20", "--task=detection"], "preset must be one of the task detection"),
        (["photo.jpg"], "train takes flags only; got 'photo.jpg'"),
        ([], "workdir must be given: --workdir=..."),
        (["--strategy=many", "--workdir=x"], "strategy must be one of 'auto', 'one', 'mirrored'"),
    ],
)
def test_bad_flags(arguments, message, capsys):
    assert cli.run("train", arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_help_is_grouped_by_topic(capsys):
    assert cli.run("train", ["--help"]) == 0
    output = capsys.readouterr().out
    topics = [line[:-1] for line in output.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert topics == ["data", "augmentation", "network", "optimization", "run", "hardware", "presets"]
    assert cli.run("train", ["--help", "--task=detection"]) == 0
    assert "--anchor_scales: Sides of the anchors in pixels. [128.0,256.0,512.0]" in capsys.readouterr().out


def test_files_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.run("costs", ["ResNet18"]) == 0
    capsys.readouterr()

    class Full(Verb):
        """Write to a file that is a folder."""

        def run(self, invocation):
            (tmp_path / "file" / "new").mkdir()

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cli.VERBS, "costs", Full)
        assert cli.run("costs", []) == 1
    assert "file/new' cannot be read or written: Not a directory." in capsys.readouterr().err


def test_a_flag_of_another_format(tmp_path, capsys):
    assert cli.run("export", ["--workdir=x", "--out=y", "--format=tflite", "--version=3"]) == 1
    assert "version is a flag of --format=saved_model, not of --format=tflite" in capsys.readouterr().err


def test_the_preset_decides_the_task(tmp_path):
    for preset in PRESETS:
        assert cli.task_of([f"--preset={preset}"]).name == "classification"
    for preset in DETECTION_PRESETS:
        assert cli.task_of(["--preset", preset]).name == "detection"
    assert cli.task_of([f"--workdir={tmp_path}"]).name == "classification"
    for name, config in (("a", ClassifierConfig()), ("b", DetectorConfig())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config.to_json())  # of no task, as in version 0.1
        expected = "detection" if name == "b" else "classification"
        assert cli.task_of(["photo.jpg", f"--workdir={tmp_path}/{name}"]).name == expected
        assert cli.task_of([f"--config={tmp_path}/{name}/config.json"]).name == expected
