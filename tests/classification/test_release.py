"""Runs turned into files for others: the weights, the measured error, the origin, and what is refused."""

import dataclasses
import json
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from keras_resnet import files
from keras_resnet.classification import release, train
from keras_resnet.classification.config import PRESETS
from keras_resnet.classification.pretrained import Pretrained
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.cli import main as cli
from keras_resnet.data import sources
from keras_resnet.models import weights
from keras_resnet.models.weights.info import ModelInfo
from tests import hub
from tests.classification.small_runs import CONFIG
from tests.runs import variables_of

pytestmark = pytest.mark.usefixtures("one_block_resnet20")
ORIGIN = ["--name=tiny", "--commit=3f49dab", "--device=2 CPU cores"]
SMALL = dataclasses.replace(CONFIG, ema=0.0, steps=6, decay_steps=(), eval_steps=2, eval_split="test[:200]")


@pytest.fixture(scope="module")
def run(one_block_resnet20, tmp_path_factory):
    return train.train(SMALL, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def published(run, tmp_path_factory):
    """The folder that `publish` writes for the run."""
    out = tmp_path_factory.mktemp("published") / "tiny"
    assert cli.run("publish", [*ORIGIN, str(run.path), str(out)]) == 0
    return out


def test_the_card_states_origin_and_measured_error(run, published):
    assert sorted(path.name for path in published.iterdir()) == [
        "README.md",
        "config.json",
        "curves.png",
        "model.safetensors",
    ]
    assert {path.stat().st_mode & 0o777 for path in published.iterdir()} == {0o644}
    card = ModelInfo.from_card((published / "config.json").read_text())
    assert (card.model, card.weights, card.seed, card.steps) == ("resnet20", "tiny", 0, 6)
    assert (card.commit, card.device, card.split) == ("3f49dab", "2 CPU cores", "test[:200]")
    assert card.digest == f"sha256:{files.digest(published / 'model.safetensors')}"
    source = Pretrained.open(published / "model.safetensors")
    examples = sources.load(SMALL.dataset).examples("test[:200]")
    transform = source.eval_transform()
    scores = source.load().predict(transform.batch(examples.images.astype("float32")), verbose=0)
    wrong = scores.argmax(1) != examples.labels
    assert card.top1_error == pytest.approx(100 * wrong.mean(), abs=0.01)
    assert card.top5_error is None
    readme = (published / "README.md").read_text()
    assert readme.startswith("---\nlibrary_name: keras_resnet\nlicense: apache-2.0\n")
    assert f"| resnet20 | single | {card.top1_error:.2f} |" in readme
    assert f"command: `{card.command}`" in readme
    assert "the lowest error on test[:200]" in readme


def test_the_weights_are_the_best_or_the_last(run, published, tmp_path):
    best = Pretrained.open(published / "model.safetensors").load()
    for one, two in zip(best.get_weights(), run.load().get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    release.write(run.path, tmp_path / "last", name="tiny", last=True)
    last = Pretrained.open(tmp_path / "last" / "model.safetensors").load()
    stored = variables_of(run)
    kernel = stored["network/predictions.Skernel/.ATTRIBUTES/VARIABLE_VALUE"]
    np.testing.assert_array_equal(last.get_layer("predictions").kernel.numpy(), kernel)
    assert "the last checkpoint" in (tmp_path / "last" / "README.md").read_text()


def test_evaluate_measures_the_error_of_the_card(published, capsys):
    path = published / "model.safetensors"
    assert cli.run("evaluate", [f"--weights={path}", f"--dataset={SMALL.dataset}", "--split=test[:200]"]) == 0
    error = json.loads((published / "config.json").read_text())["top1_error"]
    assert f"| resnet20 | single | {error:.2f} |" in capsys.readouterr().out


def test_the_command_trains_the_configuration():
    assert release.command_of(PRESETS["cifar10_resnet56"]) == "keras-resnet train --preset=cifar10_resnet56"
    changed = dataclasses.replace(
        PRESETS["cifar10_resnet20"], precision="mixed_bfloat16", decay_steps=(3, 4), mirror=False, data_dir="/data"
    )
    command = release.command_of(changed)
    assert set(command.split()[2:]) == {
        "--preset=cifar10_resnet20",
        "--precision=mixed_bfloat16",
        "--decay_steps=3,4",
        "--mirror=false",
    }
    verb, invocation = cli.parse("train", command.split()[2:])
    parsed = PRESETS[verb.preset].override(invocation.config_flags)
    assert parsed == dataclasses.replace(changed, data_dir=None)


def test_the_command_does_not_tell_the_folders_of_the_machine():
    changed = dataclasses.replace(
        PRESETS["cifar10_resnet20"], dataset="folder:/home/me/photos", init_weights="/home/me/r20.weights.h5"
    )
    expected = {"--preset=cifar10_resnet20", "--dataset=folder:photos", "--init_weights=r20.weights.h5"}
    assert set(release.command_of(changed).split()[2:]) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN"], "publish requires two arguments, RUN FOLDER.hf://USER/NAME; got 1"),
        (["RUN", "OUT"], "name must be given for weights that were trained on 'synthetic:8x8x4'"),
        (["RUN", "OUT", "--name=My Net"], "name must consist of .*; got 'My Net'"),
        (["RUN", "RUN", "--name=tiny"], "FOLDER must be a folder that does not exist yet"),
        (["RUN", "OUT", "--name=tiny", "--split=valid"], "valid"),
        (["LONGER", "OUT", "--name=tiny"], r"workdir must be of a finished run; .* is at step 6 of 7"),
        (["AVERAGED", "OUT", "--name=tiny", "--last"], "last must be off for runs with ema or swa_start"),
        (["nowhere", "OUT"], "RUN must be the folder of a run"),
    ],
    ids=lambda value: "_".join(value)[:30] if isinstance(value, list) else None,
)
def test_mistakes(run, tmp_path, capsys, arguments, message):
    places = {
        "RUN": run.path,
        "OUT": tmp_path / "out",
        "LONGER": tmp_path / "longer",
        "AVERAGED": tmp_path / "averaged",
    }
    for name, changes in (("LONGER", {"steps": 7}), ("AVERAGED", {"ema": 0.9})):
        other = ClassifierRun(places[name], dataclasses.replace(run.config, **changes), run.dataset_info)
        other.create()
        other.checkpoints.symlink_to(run.checkpoints)
        weights.save(run.load(), other.weights)
    before = sorted(tmp_path.iterdir())
    capsys.readouterr()
    assert cli.run("publish", [str(places.get(word, word)) for word in arguments]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(message, error), error
    assert sorted(tmp_path.iterdir()) == before


def test_weights_in_the_wheel_are_complete():
    """Every folder of weights in the package has a card, whose digest is that of its weights, and a README."""
    from keras_resnet.models.weights import published as names

    for info in names.available():
        if info.url.startswith("file:"):
            folder = pathlib.Path(info.url.removeprefix("file://")).parent
            assert folder.name == f"{info.model}_{info.weights}"
            assert (folder / "README.md").is_file()
            names.fetch(info)


def test_published_on_the_hub_and_used_from_there(run, published, tmp_path, monkeypatch, capsys):
    pytest.importorskip("huggingface_hub")
    Image.fromarray(np.full((8, 8, 3), 90, "uint8")).save(tmp_path / "photo.png")
    monkeypatch.setenv("KERAS_RESNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "right")
    with hub.running() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        assert cli.run("publish", [*ORIGIN, str(run.path), "hf://user/tiny"]) == 0
        assert f"uploaded to {server.address}/user/tiny/commit/" in capsys.readouterr().out
        files_there = server.repos["user/tiny"]
        assert files_there["model.safetensors"] == (published / "model.safetensors").read_bytes()
        assert b'keras_resnet.ResNet20(weights="hf://user/tiny", classes=4)' in files_there["README.md"]
        outputs = []
        for weights_from in ("hf://user/tiny", published / "model.safetensors"):
            assert cli.run("predict", [f"--weights={weights_from}", str(tmp_path / "photo.png")]) == 0
            outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert cli.run("publish", [str(run.path), "hf://user"]) == 1
    assert "the repository must be hf://USER/NAME" in capsys.readouterr().err
