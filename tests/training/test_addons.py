"""The optimizers of tensorflow-addons against NumPy and against each other."""

import contextlib
import json
import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import compat
from keras_resnet.training import optimizers

pytest.importorskip("tensorflow_addons", reason="tensorflow-addons is for TensorFlow 2.15; see docs/stacks.md")


def steps(name, gradients, start=(1.0, -2.0, 0.5), rate=0.1, **options):
    """A variable after one step for each gradient."""
    variable = compat.Variable(np.float32(start), name="kernel")
    optimizer = optimizers.make(name, rate, **options)
    for gradient in gradients:
        optimizer.apply_gradients([(tf.constant(gradient, tf.float32), variable)])
    return variable.numpy()


def test_lookahead_goes_half_the_way_every_six_steps(random):
    """Zhang et al. (2019): fast weights by SGD, slow ones halfway to them after each six steps."""
    gradients = random.normal(size=(8, 3))
    slow = fast = np.float64([1.0, -2.0, 0.5])
    for step, gradient in enumerate(gradients, 1):
        fast = fast - 0.1 * gradient
        if step % 6 == 0:
            slow = fast = slow + 0.5 * (fast - slow)
    found = steps("lookahead_sgd", gradients, momentum=0.0)
    np.testing.assert_allclose(found, fast, atol=1e-6)


def test_novograd_by_hand(random):
    """Ginsburg et al. (2019): one second moment for the whole variable, the decay under the momentum."""
    gradients = random.normal(size=(5, 3))
    w, m, v = np.float64([1.0, -2.0, 0.5]), 0.0, None
    for gradient in gradients:
        square = (gradient**2).sum()
        v = square if v is None else 0.999 * v + 0.001 * square
        m = 0.9 * m - 0.1 * (gradient / (np.sqrt(v) + 1e-7) + 0.01 * w)
        w = w + m
    np.testing.assert_allclose(steps("novograd", gradients, weight_decay=0.01), w, atol=1e-5)


def test_lookahead_decays_and_excludes_as_without_it(random):
    gradients = random.normal(size=(5, 3))  # one less than it takes to look ahead
    for name in ("sgd", "sgdw", "adamw", "lamb"):
        for decay_norm in (True, False):
            options = {"weight_decay": 0.1, "decay_norm": decay_norm}
            variables = []
            for prefix in ("", "lookahead_"):
                gamma = compat.Variable([1.0, -2.0, 0.5], name="gamma")
                optimizer = optimizers.make(prefix + name, 0.1, **options)
                for gradient in gradients:
                    optimizer.apply_gradients([(tf.constant(gradient, tf.float32), gamma)])
                variables.append(gamma.numpy())
            np.testing.assert_allclose(*variables, atol=1e-6, err_msg=f"{name}, decay_norm={decay_norm}")


def test_the_decay_of_tfas_own_lamb_is_inside_of_the_trust_ratio(random):
    """The deliberate difference: "lamb" is Keras 3's rule on both stacks, "tfa:LAMB" the paper's."""
    gradients = random.normal(size=(3, 3))
    np.testing.assert_allclose(steps("lamb", gradients), steps("tfa:LAMB", gradients), atol=1e-5)
    one, other = (steps(name, gradients, weight_decay=0.5) for name in ("lamb", "tfa:LAMB"))
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("name", ["Yogi", "RectifiedAdam", "LazyAdam", "AdaBelief", "COCOB"])
def test_others_by_their_class(name, random):
    gradients = random.normal(size=(3, 3))
    found = steps(f"tfa:{name}", gradients, weight_decay=0.01)
    assert np.isfinite(found).all()
    assert np.abs(found - np.float32([1.0, -2.0, 0.5])).max() > 1e-6


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tfa:Adem", {}, "optimizer must name a class of tfa.optimizers after 'tfa:'; got 'Adem'"),
        ("tfa:Lookahead", {}, "optimizer must not be 'tfa:Lookahead', which wraps another optimizer"),
        ("tfa:MultiOptimizer", {}, "optimizer must not be 'tfa:MultiOptimizer', which wraps another optimizer"),
        ("novograd", {"decay_norm": False}, "decay_norm must be True with novograd, which decays all variables"),
        ("sgdw", {"accumulate": 2}, "accumulate must be 1 with sgdw of Keras 2"),
    ],
)
def test_bad_names(name, options, message):
    with pytest.raises(ValueError, match=message):
        optimizers.make(name, 0.1, **options)


@pytest.mark.parametrize("name", ["lookahead_adamw", "novograd", "tfa:Yogi"])
def test_a_slower_backbone(name):
    """As of Keras' own: one step at a tenth of the rate is a tenth of the step, and decay keeps the whole rate."""
    changes = {}
    for factor in (1.0, 0.1):
        kernel = compat.Variable([1.0, 2.0], name="kernel")
        optimizer = optimizers.make(name, 0.5, slow=[kernel], slow_multiplier=factor)
        optimizer.apply_gradients([(tf.constant([1.0, -2.0]), kernel)])
        changes[factor] = kernel.numpy() - [1, 2]
    np.testing.assert_allclose(changes[0.1], 0.1 * changes[1.0], rtol=1e-4)


@pytest.mark.parametrize("name", ["sgdw", "adamw", "lamb", "lookahead_sgd", "tfa:Yogi"])
def test_config_round_trip(name):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([4], [0.1, 0.01])
    optimizer = optimizers.make(name, schedule, weight_decay=0.1)
    again = type(optimizer).from_config(optimizer.get_config())
    assert again.get_config().keys() == optimizer.get_config().keys()


@pytest.mark.parametrize("name", ["sgdw"])
def test_two_workers_end_equal(name, tmp_path):
    """MultiWorkerMirroredStrategy needs no correction on this stack."""
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(socket.socket()) for _ in range(2)]
        for port in ports:
            port.bind(("localhost", 0))
        addresses = [f"localhost:{port.getsockname()[1]}" for port in ports]
    workers = []
    for index in range(2):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(cluster), "PYTHONPATH": "."}
        command = [sys.executable, "-m", "tests.training.keras2_worker", name, str(tmp_path / f"{index}.npz")]
        workers.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for worker in workers:
        errors = worker.communicate(timeout=300)[1]
        assert worker.returncode == 0, errors[-3000:]
    one, other = (np.load(tmp_path / f"{index}.npz") for index in range(2))
    assert one["arr_0"] == other["arr_0"] == 2
    for key in one.files:
        np.testing.assert_array_equal(one[key], other[key])
