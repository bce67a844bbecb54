"""`keras-resnet launch --elastic`: with how many workers a run is resumed."""

import json
import sys

import pytest

from keras_resnet.cli import launch as verb
from keras_resnet.cli import main
from keras_resnet.distribute import launch


@pytest.mark.parametrize(
    ("config", "left", "expected"),
    [
        ({"batch_size": 16}, 3, 2),
        ({"batch_size": 12, "accumulate": 1}, 3, 3),
        ({"batch_size": 12, "accumulate": 2}, 5, 3),
        ({"batch_size": 7}, 6, 1),
        (None, 3, 0),
    ],
    ids=str,
)
def test_the_largest_number_that_divides_the_batch(config, left, expected, tmp_path):
    if config:
        (tmp_path / "config.json").write_text(json.dumps({"config": config}))
    for flag in ([f"--workdir={tmp_path}"], ["--workdir", str(tmp_path)]):
        assert verb._fewer(["--preset=digits_resnet20", *flag], left) == expected


def test_only_train_is_elastic(monkeypatch, capsys, tmp_path):
    started = []
    monkeypatch.setattr(launch, "run", lambda command, count, fewer: started.append((command, count, fewer)) or 0)
    assert main.run("launch", ["--elastic", "evaluate", f"--workdir={tmp_path}"]) == 1
    assert "elastic requires the verb train; got 'evaluate'." in capsys.readouterr().err
    for flags in ([], ["--elastic"]):
        assert main.run("launch", ["--workers=3", *flags, "train", f"--workdir={tmp_path}"]) == 0
    (command, count, fewer), (again, _, elastic) = started
    assert command == again == [sys.executable, "-m", "keras_resnet.cli", "train", f"--workdir={tmp_path}"]
    assert (count, fewer) == (3, None)
    (tmp_path / "config.json").write_text('{"config": {"batch_size": 9}}')
    assert elastic(2) == 1
