"""The parts of the command that measures performance: processes that take turns, tables, and what is measured."""

import inspect
import json

import pytest

from benchmarks import contenders, machine, results, subjects
from benchmarks.alternating import Contender, Turns, alternate


def test_contenders_take_turns_and_one_that_fails_is_left_out():
    notes = []
    found = alternate(
        [
            Contender("a", "importing", {"module": "json"}),
            Contender("b", "importing", {"module": "no_such_module"}),
            Contender("c", "importing", {"module": "wave", "after": ["json"], "attribute": "open"}, fresh=True),
        ],
        rounds=2,
        seconds=0.0,
        note=notes.append,
    )
    assert [note.split(":")[0] for note in notes] == ["b", "a", "c", "c", "a"]
    assert found["b"].error == "ModuleNotFoundError: No module named 'no_such_module'"
    for name in "ac":
        assert found[name].error is None
        assert found[name].amounts == [1, 1]
        assert all(seconds > 0 for seconds in found[name].seconds)
        assert all(5 < peak < 1000 for peak in found[name].peak_mib)


def test_a_turn_is_repeated_until_its_time_is_over_but_not_in_a_fresh_process():
    rows = [Contender(name, "importing", {"module": "json"}, fresh=name == "b") for name in "ab"]
    found = alternate(rows, 1, 0.05, note=lambda line: None)
    assert found["a"].amounts[0] > 10
    assert 0.05 <= found["a"].seconds[0] < 1
    assert found["b"].amounts == [1]


def turns(*seconds, amount=10):
    count = len(seconds)
    return Turns([amount] * count, list(seconds), [2 * s for s in seconds], [100.0] * count)


def test_tables_by_hand(tmp_path):
    """10 images in 1 s against 10 in 2 s, where 1 s of matrix products of 8e9 operations is the limit."""
    rows = [
        Contender("keras_resnet", "keras_training", operations=4e8),
        Contender("other", "keras_training", operations=4e8),
        Contender("broken", "keras_training"),
        Contender("products", "matrix_product", operations=8e9, is_limit=True),
    ]
    found = {
        "keras_resnet": turns(1.0, 1.25, 0.5),
        "other": turns(2.0, 2.0, 2.5),
        "broken": Turns(error="no | such thing"),
        "products": turns(1.0, 1.0, 1.0, amount=1),
    }
    table = results.Table.of("training", "A step", "images/s", rows, found)
    ours, other, broken, products = table.rows
    assert ours.values == [10, 8, 20]
    assert ours.processor == [5, 4, 10]
    assert (ours.rate, ours.share, products.share) == (4e9, 0.5, 1.0)
    assert other.values == [5, 5, 4]
    assert broken.values == []
    lines = table.markdown().splitlines()
    assert lines[4] == "| keras_resnet | 10.0 (8.0-20.0) | 1.00 (1.00-1.00) | 1.00 | 4 | 50% | 100 |"
    assert lines[5] == "| other | 5.00 (4.00-5.00) | 2.00 (1.60-5.00) | 2.00 | 2 | 25% | 100 |"
    assert lines[6] == "| broken | not measured: no / such thing | | | | | |"
    assert lines[7] == "| products |  |  |  | 8 | 100% | 100 |"
    values = json.loads(json.dumps(table.to_dict()))["rows"]
    assert values[1]["first_over_this"] == 2.0
    assert values[1]["by_round"] == [2.0, 1.6, 5.0]
    assert "by_round" not in values[3]
    results.plot([table], tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 5000


def test_times_are_of_one_item():
    found = {"a": turns(1.0, 3.0), "b": turns(4.0, 4.0)}
    rows = [Contender(name, "importing") for name in found]
    table = results.Table.of("export", "One image", "ms", rows, found)
    assert table.rows[0].values == [100.0, 300.0]
    assert "| b | 400 (400-400) | 0.50 (0.25-0.75) | 0.50 |  |  | 100 |" in table.markdown()
    found["b"] = turns(0.042, 0.0424)
    found["a"] = turns(0.04, 0.05)
    assert "| b | 0.00422 (0.00420-0.00424) |" in results.Table.of("start_up", "Imports", "s", rows, found).markdown()
    assert results.Table.of("memory", "Memory", "MiB", rows, found).rows[0].values == [100.0, 100.0]


@pytest.mark.parametrize("kind", subjects.KINDS)
@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("quick", [False, True])
def test_what_is_measured_can_be_called(kind, device, quick):
    for subject in subjects.KINDS[kind](subjects.Settings(device, quick, folder="exports")):
        names = [contender.name for contender in subject.contenders]
        assert len(set(names)) == len(names)
        assert not subject.contenders[0].is_limit
        for contender in [*subject.contenders, *filter(None, [subject.prepare])]:
            assert "," not in contender.name
            json.dumps([contender.options, contender.environment])
            function = getattr(contenders, contender.make)
            if contender.make == "training_memory":
                function = contenders.keras_training
            inspect.signature(function).bind(**contender.options)


def test_the_machine_is_named():
    facts = machine.describe()
    assert set(facts) == {"date", "processor", "cores", "load before", "versions"}
    assert "keras 3." in facts["versions"]
