"""The state of a run as text, against a folder whose numbers are known."""

import json
import os

import pytest

from keras_resnet.cli import main as cli
from keras_resnet.errors import InputError
from keras_resnet.experiment import live

START = 1_700_000_000


def run_folder(path, steps=1000, saved=((400, 0), (500, 50)), records=(), task="detection"):
    """A run whose checkpoints were written some seconds after `START`."""
    (path / "checkpoints").mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"task": task, "config": {"steps": steps}}))
    if records:
        (path / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    for step, seconds in saved:
        index = path / f"checkpoints/ckpt-{step}.index"
        index.touch()
        os.utime(index, (START + seconds, START + seconds))
    for file in (path / "config.json", path / "metrics.jsonl"):
        if file.exists():
            os.utime(file, (START - 1000, START - 1000))
    return str(path)


def test_progress_speed_and_what_is_left(tmp_path):
    """100 steps in 50 s: 2 steps/s, so that the other 500 take 250 s."""
    path = run_folder(tmp_path / "a")
    state = live.State.read(path, START + 80)
    assert state.headline() == (
        f"{path} (detection): step 500 of 1,000 (50.0 %), 2.00 steps/s, about 4 min left, last change 30 s ago"
    )
    assert "QUIET: last change 13 min ago" in live.State.read(path, START + 830).headline()


def test_a_slow_run_is_not_quiet_between_its_checkpoints(tmp_path):
    path = run_folder(tmp_path / "a", saved=((10, 0), (20, 3600)), records=[{"step": 10, "loss": 1.0}])
    assert (
        "360.0 s a step, about 4 d 2 h left, last change 1 h 00 min ago"
        in live.State.read(path, START + 7200).headline()
    )


def test_a_run_without_checkpoints_and_a_finished_one(tmp_path):
    new = live.State.read(run_folder(tmp_path / "new", saved=()), START - 990)
    assert new.headline().endswith("step 0 of 1,000 (0.0 %), last change 10 s ago")
    assert live.text([new]) == new.headline()
    done = live.State.read(run_folder(tmp_path / "done", saved=((900, 0), (1000, 60))), START + 120)
    assert done.headline().endswith("step 1,000 of 1,000 (100.0 %), finished 1 min ago")


def test_a_run_that_stopped_early(tmp_path):
    path = run_folder(tmp_path / "a")
    (tmp_path / "a/early_stop.json").write_text("{}")
    state = live.State.read(path, START + 110)
    assert state.is_finished
    assert state.headline().endswith("step 500 of 1,000 (50.0 %), stopped early 1 min ago")


def test_values_and_chart(tmp_path):
    records = [
        {"step": step, "loss": loss, "val_error": error, "val_ap50_cat": 1.0, "learning_rate": rate}
        for step, loss, error, rate in [(250, 8.0, 40.0, 0.1), (500, float("nan"), 20.0, 0.1), (750, 1.0, 30.0, 0.01)]
    ]
    path = run_folder(tmp_path / "a", records=records)
    with open(f"{path}/metrics.jsonl", "a") as file:
        file.write('{"step": 1000, "lo')  # a line that is being written
    lines = live.text([live.State.read(path, START)], width=60).splitlines()
    assert lines[1] == "  loss                    1  █▁", "NaN is left out"
    assert lines[2] == "  val_error              30  █▁▅"
    assert lines[3] == "  learning_rate        0.01  ██▁"
    assert not any("ap50" in line for line in lines), "values of single classes are left out"
    assert lines[4] == "  val_error: lowest 20 at step 500"
    chart = lines[5:13]
    assert chart[0].startswith("       40 │")
    assert chart[-1].startswith("       20 │")
    # 48 characters for 1,000 steps: 250, 500 and 750 are at 12, 24 and 36.
    assert [(row, line.index("•") - 11) for row, line in enumerate(chart) if "•" in line] == [(0, 12), (3, 36), (7, 24)]
    assert lines[-1].endswith("1,000")
    assert max(map(len, lines[1:])) <= 60


def test_many_values_are_averaged():
    assert live.sparkline([0, 0, 7, 7], 2) == "▁█"
    assert live.sparkline([1.0] * 100, 10) == "▁" * 10
    assert live.sparkline([0, 2, 4], 10) == "▁▅█"


def test_durations():
    assert [live.duration(s) for s in (0, 59, 61, 3599, 3700, 172_000, 180_000)] == [
        *("0 s", "59 s", "1 min", "1 h 00 min", "1 h 02 min", "47 h 47 min", "2 d 2 h"),
    ]


def test_the_command_prints_once_without_a_terminal(tmp_path, capsys):
    path = run_folder(tmp_path / "a")
    assert cli.main(["watch", path]) == 0
    assert f"{path} (detection): step 500 of 1,000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "watch requires the folders of runs"), (["/no/such"], "RUN must be the folder of a run; '/no/such' has no")],
)
def test_mistakes(arguments, message, capsys):
    assert cli.main(["watch", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_config_without_steps(tmp_path):
    (tmp_path / "config.json").write_text('{"config": {}}')
    with pytest.raises(InputError, match="must have the number of steps; it has none"):
        live.State.read(str(tmp_path))
