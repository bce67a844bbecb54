"""Checkpoints of other networks, and on a full disk; `classification/test_train.py` resumes runs from them."""

import resource
import signal
import threading
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_resnet import compat
from keras_resnet.errors import Stopped
from keras_resnet.training import checkpoints
from keras_resnet.training.checkpoints import Checkpoints, StopOnSignal
from tests.conftest import KERAS_2


def saver_of(features, units, folder, background=True):
    """Return the `Checkpoints` of a compiled linear model."""
    model = keras.Sequential([keras.Input((features,)), keras.layers.Dense(units)])
    model.compile("sgd", "mse")
    return Checkpoints(model, folder, 1, background=background)


def write(saver):
    """Save, and wait until it is written."""
    saver.save()
    saver.wait()


def test_a_checkpoint_of_another_network(tmp_path):
    saver = saver_of(4, 3, tmp_path)
    write(saver)
    with pytest.raises(ValueError, match=r"checkpoint '.*ckpt-0' does not fit this run"):
        saver_of(4, 5, tmp_path).restore()


@pytest.mark.parametrize("name", ["b*", "c?d", "e f (2) ä", "{g}", "h]", "50%"])
def test_names_of_folders_that_are_patterns(name, tmp_path):
    """TensorFlow's own functions find no checkpoint below such a folder: neither to restore nor to remove."""
    saver = saver_of(4, 3, tmp_path / name)
    kernel = saver.variables[0]
    for step in range(1, 6):
        saver.optimizer.iterations.assign(step)
        kernel.assign(np.full((4, 3), step))
        saver.save()
    saver.wait()
    steps = {file.name.split(".")[0] for file in (tmp_path / name).glob("ckpt-*")}
    assert steps == {"ckpt-3", "ckpt-4", "ckpt-5"}
    again = saver_of(4, 3, tmp_path / name)
    assert again.restore() == 5
    assert (np.asarray(again.variables[0]) == 5).all()


@pytest.mark.skipif(KERAS_2, reason="Keras 2 draws from TensorFlow's own generators")
def test_random_layers_continue_their_sequence(tmp_path, monkeypatch):
    """Also from a checkpoint of a version that did not save their state, which starts it again."""
    inputs = np.ones((1, 1000), "float32")

    def dropout():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((1000,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    def draw(model):
        return model.layers[0](inputs, training=True).numpy()

    first = dropout()
    draws = [draw(first)]
    Checkpoints(first, tmp_path / "new", 1, background=False).save()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "compat", SimpleNamespace(**{**vars(compat), "path": lambda variable: ""}))
        Checkpoints(first, tmp_path / "old", 1, background=False).save()
    draws.append(draw(first))
    for folder, expected in (("new", draws[1]), ("old", draws[0])):
        again = dropout()
        assert Checkpoints(again, tmp_path / folder, 1).restore() == 0
        np.testing.assert_array_equal(draw(again), expected)


@pytest.mark.parametrize("background", [False, True])
def test_a_full_disk_leaves_the_older_checkpoint(background, tmp_path):
    """A limit on the size of files simulates a full disk: the kernel refuses to write in the middle of a save."""
    saver = saver_of(200, 2000, tmp_path, background)
    write(saver)
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for step in range(1, 21):
            saver.optimizer.iterations.assign(step)
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000 + 70_000 * step, before[1]))
            message = f"the checkpoint of step {step} cannot be written to .*, older ones are kept: "
            with pytest.raises(ValueError, match=message):
                write(saver)
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            assert all((tmp_path / name).read_bytes() == contents for name, contents in kept.items())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert saver.restore() == 0
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


@pytest.fixture
def slow_writer(monkeypatch):
    """Let no checkpoint be written before the event is set."""
    event, write = threading.Event(), Checkpoints._write

    def slow(self, *arguments):
        assert event.wait(60)
        write(self, *arguments)

    monkeypatch.setattr(Checkpoints, "_write", slow)
    return event


@pytest.mark.skipif(KERAS_2, reason="writes in the step")
def test_training_goes_on_while_a_checkpoint_is_written(slow_writer, tmp_path):
    """The file has the values of its step, and the next one is begun when it is complete."""
    saver = saver_of(4, 3, tmp_path)
    kernel = saver.variables[0]
    for step in (1, 2):
        saver.optimizer.iterations.assign(step)
        kernel.assign(np.full((4, 3), step))
        if step == 2:
            assert not list(tmp_path.glob("ckpt-1*"))
            slow_writer.set()
        saver.save()
        kernel.assign(np.zeros((4, 3)))
        assert (tmp_path / "ckpt-1.index").exists() == (step == 2)
    for step in (2, 1):
        again = saver_of(4, 3, tmp_path)
        saver.wait()
        path = tmp_path / f"ckpt-{step}"
        again.checkpoint.restore(str(path)).expect_partial()
        np.testing.assert_array_equal(again.variables[0], np.full((4, 3), step))


@pytest.mark.skipif(KERAS_2, reason="writes in the step")
@pytest.mark.parametrize("end", ["signal", "end of training"])
def test_a_run_ends_when_its_checkpoint_is_written(end, slow_writer, tmp_path):
    saver = saver_of(4, 3, tmp_path)
    saver.save()
    threading.Timer(0.3, slow_writer.set).start()
    if end == "signal":
        stop = StopOnSignal(saver)
        stop.received = signal.SIGTERM
        with pytest.raises(Stopped, match="stopped by SIGTERM at step 0; checkpoint saved"):
            stop.on_train_batch_end(0)
    else:
        saver.on_train_end()
    assert checkpoints.newest(tmp_path)


@pytest.mark.skipif(KERAS_2, reason="writes in the step")
def test_an_error_of_the_writer_is_raised_by_the_next_save(tmp_path):
    saver = saver_of(4, 3, tmp_path)
    saver.variables[0].assign(np.full((4, 3), np.nan))
    saver.save()
    with pytest.raises(FloatingPointError, match="kernel is not finite at step 0; nothing was saved"):
        saver.save()
    assert not list(tmp_path.iterdir())
    saver.variables[0].assign(np.zeros((4, 3)))
    saver.save()
    saver.close()
    assert checkpoints.newest(tmp_path)
