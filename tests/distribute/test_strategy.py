"""Strategies from flags and environment, replicas compared with one device, and steps that a TPU could run."""

import dataclasses
import json
import os
import socket
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import errors
from keras_resnet.classification import train
from keras_resnet.classification.config import PRESETS
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.data import pipeline, sources
from keras_resnet.distribute import multi_worker, strategy
from keras_resnet.errors import InputError
from keras_resnet.experiment.curves import read_metrics
from keras_resnet.training import optimizers
from tests.classification.small_runs import KINDS, on_small_images
from tests.distribute.two_workers import ACCUMULATED, CONFIG, SAME
from tests.networks import one_block
from tests.runs import assert_equal, signal_at, variables_of

pytestmark = pytest.mark.usefixtures("one_block_resnet20", "without_curves")


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "KERAS_RESNET_PODS")) or name in ("TF_CONFIG", "TPU_NAME"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def one_device(one_block_resnet20, tmp_path_factory):
    return train.train(SAME, tmp_path_factory.mktemp("one"))


def test_two_replicas_are_one_device(one_device, two_replicas, tmp_path, capsys):
    """Synchronized batch norm, 20 steps in float32; 50 images to evaluate on do not fill a batch."""
    run = train.train(SAME, tmp_path, two_replicas)
    assert "float32 on 2 replicas (CPU), 8 of the 16 images of a batch on each; the learning rate is" in (
        capsys.readouterr().out
    )
    assert_equal(variables_of(one_device), variables_of(run), atol=1e-4)
    (ours,), (theirs,) = (read_metrics(each.metrics) for each in (run, one_device))
    assert ours["val_top1_error"] == theirs["val_top1_error"]
    assert ours["val_loss"] == pytest.approx(theirs["val_loss"], abs=1e-4)
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4)


def test_micro_batches_of_two_replicas_are_those_of_one_device(two_replicas, tmp_path):
    """Synchronized batch norm computes the statistics of a micro-batch over the replicas."""
    one, two = (train.train(ACCUMULATED, tmp_path / str(where), where) for where in (None, two_replicas))
    assert_equal(variables_of(one), variables_of(two), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.05}, {"loss_scale": True}, {"decay_norm": False}], ids=str)
def test_micro_batches_of_two_replicas_are_the_whole_batch(options, two_replicas, random):
    """Without batch norm; the rate falls after two steps of three micro-batches."""
    images, labels = random.normal(size=(12, 5)).astype("float32"), random.integers(0, 3, 12)
    ends = []
    for where, accumulate in ((tf.distribute.get_strategy(), 1), (two_replicas, 3)):
        keras.utils.set_random_seed(0)
        with where.scope():
            model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
            rate = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.5, 0.05])
            optimizer = optimizers.make("sgd", rate, weight_decay=0.1, accumulate=accumulate, **options)
            model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
        before = model.get_weights()[0]
        batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(12 // accumulate).repeat()
        model.fit(batches, steps_per_epoch=4 * accumulate, verbose=0, shuffle=False)
        ends.append(model.get_weights())
        assert int(optimizer.iterations.numpy()) == 4
        assert np.abs(ends[-1][0] - before).max() > 0.01
    for one, two in zip(*ends, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-6)


def test_another_strategy_resumes_a_run(one_device, two_replicas, tmp_path):
    with signal_at(7), pytest.raises(errors.Stopped, match="at step 7"):
        train.train(SAME, tmp_path, two_replicas)
    assert_equal(variables_of(one_device), variables_of(train.train(SAME, tmp_path)), atol=1e-4)


def test_replicas_end_with_the_same_variables(two_replicas, tmp_path):
    """Without synchronized batch norm each replica has statistics of its images; all keep the mean."""
    with two_replicas.scope():
        keras.utils.set_random_seed(0)
        model = one_block(input_shape=(8, 8, 3), classes=4, classifier_activation=None)
    run = train.fit(model, sources.load(CONFIG.dataset), CONFIG, tmp_path)
    for variable in model.variables:
        one, two = (part.numpy() for part in two_replicas.experimental_local_results(variable.value))
        np.testing.assert_array_equal(one, two, err_msg=variable.path)
    best = run.load(classifier_activation=None)
    if read_metrics(run.metrics)[-1]["val_top1_error"] == min(r["val_top1_error"] for r in read_metrics(run.metrics)):
        for ours, theirs in zip(model.get_weights(), best.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


class Overflowing(keras.layers.Layer):
    """An identity whose gradient overflows for the images that are all 2."""

    def call(self, x):
        @tf.custom_gradient
        def identity(x):
            huge = tf.where(tf.reduce_all(x == 2.0), float("inf"), 1.0)
            return tf.identity(x), lambda upstream: upstream * huge

        return identity(x)


@pytest.mark.parametrize("kind", ["clipped", "loss scaled", "lamb"])
def test_gradients_are_summed_before_an_optimizer_looks_at_them(kind, two_replicas):
    """The norm that is clipped is that of all gradients, and an overflow on one replica skips the step on both."""
    random = np.random.default_rng(0)
    images, labels = random.normal(size=(8, 5)).astype("float32"), np.arange(8, dtype="int32") % 3
    ends = []
    for where in (tf.distribute.get_strategy(), two_replicas):
        keras.utils.set_random_seed(0)
        with where.scope():
            model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3), Overflowing()])
            options = {"clipped": {"clip_norm": 0.05}, "loss scaled": {}, "lamb": {"weight_decay": 0.01}}[kind]
            options["loss_scale"] = kind == "loss scaled"
            optimizer = optimizers.make("lamb" if kind == "lamb" else "sgd", 0.5, **options)
            model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
        before = model.get_weights()
        batches = tf.data.Dataset.from_tensors((images, labels)).repeat()
        model.fit(batches, steps_per_epoch=3, verbose=0, shuffle=False)
        ends.append(model.get_weights())
        assert int(optimizer.iterations.numpy()) == 3
        assert not np.allclose(before[0], ends[-1][0])
        if kind == "loss scaled":
            scale = float(optimizer.dynamic_scale.numpy())
            kernel, bias = model.trainable_variables
            kernel.assign(np.zeros_like(kernel.numpy()))
            bias.assign(np.full(3, 2.0, "float32"))  # the outputs of all images are 2 now
            model.fit(batches, steps_per_epoch=1, verbose=0, shuffle=False)
            np.testing.assert_array_equal(bias.numpy(), [2.0] * 3)
            assert float(optimizer.dynamic_scale.numpy()) == scale / 2
    for one, two in zip(*ends, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-6)


def test_invalid_arguments_for_replicas(two_replicas, tmp_path):
    with pytest.raises(InputError, match="batch_size must be a multiple of the 2 replicas; got 15"):
        train.train(dataclasses.replace(CONFIG, batch_size=15), tmp_path / "run", two_replicas)
    with pytest.raises(InputError, match="multiple of the 2 replicas times accumulate, 4; got 12"):
        train.train(dataclasses.replace(CONFIG, batch_size=12, accumulate=4), tmp_path / "run", two_replicas)
    assert not (tmp_path / "run").exists()


def test_strategies_of_flags(monkeypatch):
    assert strategy.make() is tf.distribute.get_strategy()
    assert strategy.make("one") is tf.distribute.get_strategy()
    assert strategy.make(replicas=2).num_replicas_in_sync == 2
    assert strategy.make("mirrored") is tf.distribute.get_strategy()
    monkeypatch.setenv("TF_CONFIG", tf_config({"worker": ["localhost:1"]}))
    assert strategy.make() is strategy.make("multi_worker") is tf.distribute.get_strategy()
    monkeypatch.delenv("TF_CONFIG")
    with pytest.raises(InputError, match="replicas cannot divide the CPU once TensorFlow is in use; got 3"):
        strategy.make("mirrored", replicas=3)
    with pytest.raises(InputError, match="replicas require strategy 'mirrored' or 'auto'; got 2 with 'one'"):
        strategy.make("one", replicas=2)
    with pytest.raises(InputError, match="strategy must be one of 'auto', 'one', 'mirrored', 'multi_worker', 'tpu'"):
        strategy.make("all")
    with pytest.raises(InputError, match="requires a TPU, local or named by TPU_NAME; 'local' is none: "):
        strategy.make("tpu")
    monkeypatch.setenv("TPU_NAME", "no-such-tpu")
    with pytest.raises(InputError, match="requires a TPU, local or named by TPU_NAME; 'no-such-tpu' is none"):
        strategy.make()
    monkeypatch.delenv("TPU_NAME")
    monkeypatch.setattr(multi_worker.keras, "__version__", "3.99.0")
    with pytest.raises(InputError, match=r"keras must be 3.15.1 for several workers, .* got 3.99.0"):
        multi_worker.MultiWorkerStrategy()


def tf_config(cluster, kind="worker", index=0):
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


TWO = ["a:1", "b:2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "TF_CONFIG must be JSON such as"),
        ("[]", "TF_CONFIG must be JSON such as"),
        (json.dumps({"cluster": {"worker": TWO}}), "'task' is missing"),
        (tf_config({"worker": TWO}, index=2), "TF_CONFIG must have its task in its cluster; got worker 2 of"),
        (tf_config({"worker": TWO}, "chief"), "TF_CONFIG must have its task in its cluster; got chief 0 of"),
        (tf_config({"worker": TWO, "ps": ["c:3"]}), r"must have no other jobs than chief and worker; got \['ps'\]"),
        (tf_config({"worker": ["a:1", "a:1"]}), "TF_CONFIG must contain each worker once; got a:1, a:1"),
        (tf_config({"worker": ["a:1", "b"]}), "TF_CONFIG must have addresses such as 'host:2222'; got 'b'"),
        (tf_config({"worker": ["a:1", "b:99999"]}), "must have addresses such as 'host:2222'; got 'b:99999'"),
    ],
)
def test_a_wrong_tf_config(text, message, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=message):
        strategy.make()


def test_clusters_of_environments(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config({"chief": ["c:1"], "worker": TWO}, index=1))
    assert strategy.cluster() == strategy.Cluster(("c:1", "a:1", "b:2"), 2, "TF_CONFIG")
    monkeypatch.delenv("TF_CONFIG")

    for name, value in {
        "PROCID": "2",
        "STEP_NUM_TASKS": "4",
        "STEP_NODELIST": "node[07-08]",
        "STEP_TASKS_PER_NODE": "2(x2)",
        "JOB_ID": "20123",
    }.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    found = strategy.cluster()
    assert found.addresses == ("node07:10123", "node07:10124", "node08:10123", "node08:10124")
    assert found.index == 2
    monkeypatch.delenv("SLURM_STEP_NODELIST")
    with pytest.raises(
        InputError, match=r"Slurm's environment must be that of a step started by srun: SLURM_STEP_NODELIST not found"
    ):
        strategy.cluster()
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS")
    with pytest.raises(InputError, match="strategy 'multi_worker' requires TF_CONFIG, a Slurm step of several tasks"):
        strategy.cluster()


def test_pods_of_kubernetes(monkeypatch):
    """The client library is replaced by one that knows three pods, of which the last starts late."""
    phases = iter(["Pending", "Running"])

    def pod(name, host, phase):
        status = types.SimpleNamespace(host_ip=host, phase=phase)
        return types.SimpleNamespace(metadata=types.SimpleNamespace(name=name), status=status)

    class CoreV1Api:
        def list_pod_for_all_namespaces(self, label_selector):
            assert label_selector == "job-name=run"
            hosts = enumerate(["10.0.0.2", "10.0.0.1"])
            pods = [pod(f"run-{number}", host, "Running") for number, host in hosts]
            return types.SimpleNamespace(items=[*pods, pod("run-2", "10.0.0.3", next(phases, "Running"))])

    monkeypatch.setenv("KERAS_RESNET_PODS", "job-name=run")
    with pytest.raises(InputError, match="KERAS_RESNET_PODS requires the package kubernetes"):
        strategy.cluster()
    library = types.ModuleType("kubernetes")

    class Refused(Exception):
        status, reason = 403, "Forbidden"

    library.client = types.SimpleNamespace(CoreV1Api=CoreV1Api, ApiException=Refused)
    library.config = types.SimpleNamespace(load_incluster_config=lambda: None, ConfigException=FileNotFoundError)
    monkeypatch.setitem(sys.modules, "kubernetes", library)
    with pytest.raises(InputError, match="KERAS_RESNET_WORKERS must be set if KERAS_RESNET_PODS is; it is not"):
        strategy.cluster()
    monkeypatch.setenv("KERAS_RESNET_HOST_IP", "10.0.0.1")
    monkeypatch.setenv("KERAS_RESNET_WORKERS", "two")
    with pytest.raises(InputError, match="KERAS_RESNET_WORKERS must be an integer; got 'two'"):
        strategy.cluster()
    monkeypatch.setenv("KERAS_RESNET_WORKERS", "3")
    with monkeypatch.context() as outside:

        def refuse(*_, error):
            raise error

        outside.setattr(CoreV1Api, "list_pod_for_all_namespaces", lambda *_, **__: refuse(error=Refused()))
        with pytest.raises(InputError, match="must have permission to: 403 Forbidden"):
            strategy.cluster()
        outside.setattr(library.config, "load_incluster_config", lambda: refuse(error=FileNotFoundError("no token")))
        with pytest.raises(InputError, match="requires a process in a pod of Kubernetes: no token"):
            strategy.cluster()
    found = strategy.cluster()
    assert found.addresses == ("10.0.0.2:2222", "10.0.0.1:2222", "10.0.0.3:2222")
    assert found.index == 1
    monkeypatch.setenv("KERAS_RESNET_HOST_IP", "10.0.0.9")
    with pytest.raises(InputError, match=r"must be among the pods' hosts, .*; got '10.0.0.9'"):
        strategy.cluster()
    monkeypatch.setenv("KERAS_RESNET_WORKERS", "4")
    with pytest.raises(InputError, match="4 pods of 'job-name=run' must run within 0 s; 3 do"):
        strategy.cluster(timeout=0)


def test_workers_that_cannot_be_reached(monkeypatch):
    """One that nobody listens for, one whose name is unknown, and an address that is taken."""
    with socket.socket() as silent, socket.socket() as taken:
        for each in (silent, taken):
            each.bind(("localhost", 0))
        taken.listen()
        ports = [each.getsockname()[1] for each in (silent, taken)]
        with socket.socket() as free:
            free.bind(("localhost", 0))
            own = f"localhost:{free.getsockname()[1]}"
        monkeypatch.setenv("TF_CONFIG", tf_config({"worker": [own, f"localhost:{ports[0]}", "no.such.host.invalid:1"]}))
        message = (
            rf"worker 1 at localhost:{ports[0]} \(Connection refused\) and worker 2 at no.such.host.invalid:1 \(.*\)"
        )
        with pytest.raises(InputError, match=rf"{message} cannot be reached by worker 0 within 0.5 s"):
            strategy.make(timeout=0.5)
        monkeypatch.setenv("TF_CONFIG", tf_config({"worker": [f"localhost:{ports[1]}", own]}))
        with pytest.raises(InputError, match=rf"worker 0 cannot listen at its address, localhost:{ports[1]}: Address"):
            strategy.make(timeout=0.5)


def preset_run(name):
    """A preset on small random images, its options untouched."""
    config = on_small_images(PRESETS[name], eval_split="test[:50]")
    return ClassifierRun("unused", config, sources.load(config.dataset).info)


@pytest.mark.parametrize("name", KINDS.values())
def test_batches_of_every_kind_of_preset_have_static_shapes(name):
    run = preset_run(name)
    dataset = sources.load(run.config.dataset)
    batches = pipeline.train(dataset, 8, run.train_transform())
    tests = pipeline.evaluate(dataset, 8, run.eval_transform(), split="test[:50]", pad_batches=True)
    for spec in tf.nest.flatten([batches.element_spec, tests.element_spec]):
        assert spec.shape.is_fully_defined()


def _step(config):
    """What of a preset decides the operations of a training step, apart from the network."""
    fields = ("optimizer", "loss", "label_smoothing", "mixup", "cutmix", "decay_norm", "clip_norm", "precision")
    return tuple(getattr(config, field) for field in fields)


STEPS = {_step(PRESETS[name]): name for name in KINDS.values()}
"""Kind of step -> the last preset that takes it."""


@pytest.mark.parametrize("name", STEPS.values())
def test_a_step_that_a_tpu_could_run(name):
    """XLA compiles the whole step, so it has no host op."""
    run = preset_run(name)
    batches = pipeline.train(sources.load(run.config.dataset), 8, run.train_transform())
    keras.utils.set_random_seed(0)
    size = run.train_transform().size
    model = one_block(input_shape=(*size, 3), classes=4, classifier_activation=None)
    train._compile(model, run.config)
    before, batch = model.get_weights(), next(iter(batches))
    model._symbolic_build(data_batch=batch)
    # Not by Keras' own flag, which is passed over once a test has switched deterministic kernels on.
    logs = tf.function(model.train_step, jit_compile=True)(batch)
    assert np.isfinite(logs["loss"])
    assert all(np.any(one != two) for one, two in zip(before[:1], model.get_weights()[:1], strict=True))
