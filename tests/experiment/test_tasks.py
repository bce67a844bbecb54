"""A task is one object: a toy one gets the whole command line and a run folder without a change of the package."""

import json
import pathlib

import numpy as np
import pytest

from keras_resnet.cli import main as cli
from keras_resnet.experiment import tasks


@pytest.fixture
def brightness(monkeypatch):
    from tests.experiment import toy_task

    monkeypatch.setattr(tasks, "_TASKS", dict(tasks.all_tasks()))
    return tasks.register(toy_task.TASK)


def test_a_task_in_one_short_file(brightness, tmp_path, capsys):
    assert len((pathlib.Path(__file__).parent / "toy_task.py").read_text().splitlines()) <= 80
    workdir = f"--workdir={tmp_path}/run"
    assert cli.run("train", ["--preset=noise_brightness", workdir, "--units=2"]) == 0
    output = capsys.readouterr().out
    assert "step 40/40" in output
    assert f"wrote {tmp_path}/run\nnext: keras-resnet evaluate --workdir={tmp_path}/run\n" in output
    content = json.loads((tmp_path / "run/config.json").read_text())
    assert (content["task"], content["config"]["units"]) == ("brightness", 2)
    for name in ("best.weights.h5", "metrics.jsonl", "curves.png", "checkpoints/checkpoint"):
        assert (tmp_path / "run" / name).exists(), name
    assert cli.run("evaluate", [workdir]) == 0  # config.json says which task it is
    assert float(capsys.readouterr().out.removeprefix("error ")) < 0.1
    np.save(tmp_path / "grey.npy", np.full((4, 4, 3), 0.5))
    assert cli.run("predict", [workdir, f"{tmp_path}/grey.npy"]) == 0
    assert float(capsys.readouterr().out.split(": ")[1]) == pytest.approx(0.5, abs=0.1)
    assert cli.run("export", [workdir]) == 1
    assert "export is not a verb of the task brightness; it has train, evaluate, predict" in capsys.readouterr().err
    assert cli.run("train", ["--preset=noise_brightness", workdir, "--units=3"]) == 1
    assert "units 2 there, 3 here" in capsys.readouterr().err
    assert cli.run("train", ["--help", "--task=brightness"]) == 0
    assert "--units: Units of the layer. [1]" in capsys.readouterr().out


def test_presets_of_all_tasks_differ():
    names = [name for task in tasks.all_tasks().values() for name in task.presets]
    assert len(names) == len(set(names))
    with pytest.raises(ValueError, match="got 'imagenet'"):
        tasks.of_preset("imagenet")
