"""The paper's experiments rerun on small random images: what is written is what the runs have, and runs are shared."""

import json
import statistics

import pytest
from PIL import Image

from keras_resnet.classification.config import PRESETS
from keras_resnet.cli import main as cli
from keras_resnet.experiment.curves import read_metrics
from keras_resnet.models.architectures import ARCHITECTURES
from keras_resnet.paper import reproduction

TINY = ["--dataset=synthetic:16x16x4", "--steps=2", "--batch_size=8"]


@pytest.fixture
def command(capsys):
    def call(*arguments, code=0):
        assert cli.run("reproduce", [str(argument) for argument in arguments]) == code
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    return call


def rows(text):
    """Cells of the table's lines: network -> the rest."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {line[0]: line[1:] for line in lines[2:]}


def test_the_schedule_is_scaled():
    config = PRESETS["cifar10_resnet20"]
    assert reproduction.scaled(config, None) is config
    short = reproduction.scaled(config, 6400)
    assert (short.steps, short.decay_steps, short.eval_steps) == (6400, (3200, 4800), 320)
    assert reproduction.scaled(config, 64_000) == config
    assert reproduction.scaled(PRESETS["imagenet_resnet18_a"], 60).decay_steps == (16, 32, 48)
    assert reproduction.scaled(config, 1).decay_steps == (1,)


def test_experiments_have_presets_and_the_papers_numbers():
    for experiment in reproduction.EXPERIMENTS.values():
        assert set(experiment.presets) <= set(PRESETS)
        networks = {preset.split("_", 1)[1] for preset in experiment.presets}
        assert set(experiment.on_demand) <= networks
        assert all(PRESETS[preset].shortcut in ("", "A") for preset in experiment.presets)
    assert reproduction.EXPERIMENTS["table6"].paper["resnet56"] == 6.97
    assert reproduction.EXPERIMENTS["table2"].paper["resnet34_a"] == 25.03


@pytest.mark.usefixtures("small_networks")
def test_tables_and_figures_share_runs(command, tmp_path):
    out = tmp_path / "study"
    printed = command("table6", "--networks=resnet20", "--seeds=1,0", f"--out={out}", *TINY)
    errors = {}
    for seed in (0, 1):
        records = read_metrics(out / "runs" / f"resnet20_seed{seed}" / "metrics.jsonl")
        assert [record["step"] for record in records] == [1, 2]
        errors[seed] = records[-1]["val_top1_error"]
    written = (out / "table6.md").read_text(encoding="utf-8")
    assert written.strip() in printed
    mean, deviation = statistics.mean(errors.values()), statistics.stdev(errors.values())
    expected = f"{mean:.2f} ± {deviation:.2f} (best {min(errors.values()):.2f})"
    (row,) = rows(written).values()
    assert (row[0], row[3], row[4:]) == ("20", expected, [])  # no number of the paper for random images
    assert "2 steps of 8 images, learning rate 0.1 divided by 10 at steps 1, 2; float32" in written
    values = json.loads((out / "table6.json").read_text())
    assert values["results"][0]["test_error"] == [errors[0], errors[1]]
    assert values["command"].startswith("keras-resnet reproduce table6 --networks=resnet20")
    recipe = values["recipes"]["resnet20"]
    assert (recipe["dataset"], recipe["steps"], recipe["warmup_steps"]) == ("synthetic:16x16x4", 2, 0)
    assert recipe.keys().isdisjoint({"seed", "mixup"})  # of each run, and as ever
    assert Image.open(out / "table6.png").size == (840, 540)

    again = read_metrics(out / "runs" / "resnet20_seed0" / "metrics.jsonl")
    changed = (out / "runs" / "resnet20_seed0" / "best.weights.h5").stat().st_mtime_ns
    printed = command("figure6", "--networks=resnet20,plainnet20", f"--out={out}", *TINY)
    assert "resuming" not in printed
    assert read_metrics(out / "runs" / "resnet20_seed0" / "metrics.jsonl") == again
    assert (out / "runs" / "resnet20_seed0" / "best.weights.h5").stat().st_mtime_ns == changed
    table = rows((out / "figure6.md").read_text(encoding="utf-8"))
    assert list(table) == ["plainnet20", "resnet20"]  # in the paper's order
    assert table["resnet20"][3] == f"{errors[0]:.2f}"
    assert Image.open(out / "figure6.png").size == (1680, 540)

    command("figure7", "--networks=resnet20,plainnet20", f"--out={out}", *TINY)
    assert rows((out / "figure7.md").read_text())["plainnet20"][0] == "7"
    (first, second) = json.loads((out / "figure7.json").read_text())["results"]
    assert len(first["deviations"]) == len(second["layers"]) == 7
    assert (out / "figure7.csv").read_text().count("\n") == 1 + 7 + 7
    assert Image.open(out / "figure7.png").size == (700, 650)

    error = command("table6", "--networks=resnet20", f"--out={out}", *TINY[:2], "--batch_size=4", code=1)
    assert "holds a run with a different configuration: batch_size 8 there, 4 here." in error


@pytest.mark.usefixtures("small_networks")
def test_a_changed_recipe_is_stated(command, tmp_path):
    changed = ["--steps=4", "--warmup_steps=1", "--label_smoothing=0.1", "--eval_steps=4"]
    command("table6", "--networks=resnet20", f"--out={tmp_path}", *TINY[:1], "--batch_size=8", *changed)
    text = (tmp_path / "table6.md").read_text(encoding="utf-8")
    assert "4 steps of 8 images, learning rate 0.01 for 1 step, then 0.1 divided by 10 at steps 2, 3; float32" in text
    recipe = json.loads((tmp_path / "table6.json").read_text())["recipes"]["resnet20"]
    assert (recipe["warmup_steps"], recipe["label_smoothing"], recipe["eval_steps"]) == (1, 0.1, 4)


@pytest.mark.usefixtures("small_networks")
def test_table2_by_ten_crops(command, tmp_path):
    small = ["--dataset=synthetic:48x48x4", "--image_size=32", "--eval_split=test[:20]", "--steps=1", "--batch_size=4"]
    command("table2", "--networks=resnet18_a", f"--out={tmp_path}/study", *small)
    text = (tmp_path / "study" / "table2.md").read_text(encoding="utf-8")
    (row,) = rows(text).values()
    parameters = ARCHITECTURES["ResNet18"].parameters(shortcut="A", classes=4)
    assert (row[0], row[1]) == ("18", f"{parameters:,}")
    assert "ten crops" in text.splitlines()[0]
    assert float(row[3]) in [5.0 * wrong for wrong in range(21)]
    assert "Test errors are of ten_crop" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "reproduce requires one of table2, table6, figure6, figure7; got none."),
        (["table6", "figure6"], "got table6 figure6."),
        (["table3", "--out=unused"], "experiment must be one of 'table2', 'table6', 'figure6', 'figure7'"),
        (["table6"], "out must be given"),
        (["table6", "--out=unused", "--model=resnet20"], "model is set by the experiment; use --networks instead."),
        (["table6", "--out=unused", "--seed=3"], "seed is set by the experiment; use --seeds instead."),
        (["table6", "--out=unused", "--seeds=a"], "seeds must be a list of integers"),
        (["table6", "--out=unused", "--seeds=1,1"], r"seeds must be distinct and at least one; got [1, 1]."),
        (["table6", "--out=unused", "--networks=plainnet20"], "networks must be one of 'resnet20'"),
        (["table6", "--out=unused", "--steps=0"], "steps must be at least 1; got 0."),
        (["table6", "--out=unused", "--dataset=nothing"], "dataset must be 'digits'"),
    ],
)
def test_mistakes(command, arguments, message, tmp_path):
    output = command(*(argument.replace("unused", str(tmp_path / "unused")) for argument in arguments), code=1)
    assert message in output
    assert output.count("\n") == 1
    assert not (tmp_path / "unused").exists()
