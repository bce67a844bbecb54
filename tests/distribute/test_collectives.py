"""Two workers on this machine train, stop, resume, evaluate and lose one of them like one device."""

import json
import sys

import numpy as np
import pytest

from keras_resnet.classification import evaluate, train
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.distribute import launch
from keras_resnet.experiment.curves import read_metrics
from tests.distribute import two_workers
from tests.runs import assert_equal, variables_of

pytestmark = pytest.mark.usefixtures("one_block_resnet20")


@pytest.mark.slow
def test_two_workers(tmp_path, capfd):
    """One start of two processes for all scenes, as starting TensorFlow takes most of the time; one is lost last."""
    code = launch.run([sys.executable, two_workers.__file__, str(tmp_path)], 2, fewer=lambda left: left)
    printed = capfd.readouterr().out
    assert code == 0, printed
    assert "2 replicas (CPU) of 2 workers, 8 of the 16 images of a batch on each" in printed
    assert "[worker 1] step" not in printed
    first, second = (json.loads((tmp_path / f"said{number}.json").read_text()) for number in (0, 1))
    assert first == second

    # With synchronised batch norm, 20 steps come to the weights, errors and loss of one device.
    ours = ClassifierRun.open(tmp_path / "same")
    theirs = train.train(two_workers.SAME, tmp_path / "one")
    assert_equal(variables_of(theirs), variables_of(ours), atol=1e-4)
    (ours_said,), (theirs_said,) = (read_metrics(run.metrics) for run in (ours, theirs))
    assert ours_said["val_top1_error"] == theirs_said["val_top1_error"]
    assert ours_said["val_loss"] == pytest.approx(theirs_said["val_loss"], abs=1e-4)

    theirs = train.train(two_workers.ACCUMULATED, tmp_path / "one_accumulated")
    assert_equal(variables_of(theirs), variables_of(ClassifierRun.open(tmp_path / "accumulated")), atol=1e-5)

    # Without it, both end with the very same variables, and they are what is saved.
    apart = [dict(np.load(tmp_path / f"apart{number}.npz")) for number in (0, 1)]
    assert_equal(*apart)
    assert any("moving_variance" in name for name in apart[0])
    stored = variables_of(ClassifierRun.open(tmp_path / "apart"))
    for name, value in apart[0].items():
        assert any(np.array_equal(value, other) for other in stored.values()), name

    # A signal to one of them stops both at the same step, and what follows is bit-equal.
    assert first["stopped"].startswith("stopped by SIGTERM at step 3; checkpoint saved")
    assert_equal(stored, variables_of(ClassifierRun.open(tmp_path / "stopped")))

    assert first["different"] == "config must be the same on all workers; seed is 0 on worker 0, 1 on worker 1."
    assert not (tmp_path / "different").exists()
    assert first["gathered"] == ["worker", "workerworker"]
    for found in first["evaluated"]:
        (row,) = evaluate.evaluate([ours], evaluate.EvalConfig()).rows
        expected = row.result.numbers()
        assert (found["count"], found["top1_error"]) == (256, expected["top1_error"])
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-6)

    # When this fails, Keras runs under TensorFlow's own strategy, and `training.multi_worker` can go.
    of_a_batch, of_the_logs = first["uncorrected"]
    assert "PerReplica" in of_a_batch
    assert "reduction dimension 0 for input with 0 dimensions" in of_the_logs

    # kill -9 of worker 1 in step 3: worker 0, alone, resumes from step 2 with all images of each batch.
    assert "[worker 0] worker 0 stopping: lost worker 1 (localhost:" in printed
    assert "lost worker 1 of 2: restarting with 1 worker\n" in printed
    assert "[worker 0] resuming from step 2\n" in printed
    theirs = train.train(two_workers.ELASTIC, tmp_path / "one_elastic")
    assert_equal(variables_of(theirs), variables_of(ClassifierRun.open(tmp_path / "elastic")), atol=1e-5)
