"""What `benchmarks/performance.py --device=gpu` measures, on the CPU, with small networks and without TensorFlow."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_resnet
from benchmarks import contenders, profiles

ROOT = pathlib.Path(__file__).parent.parent.parent

SMALL = {"model": "ResNet20", "batch_size": 4, "size": 16}

on_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX only")
on_torch = pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch only")


@pytest.fixture(autouse=True)
def policy():
    """Restore the dtype policy, which contenders set."""
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@on_jax
def test_steps_on_jax_are_those_of_fit_and_have_kinds():
    images, labels = contenders.batch(4, 16, 10)
    networks = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        options = {"block": "basic", "stem": "cifar", "input_shape": (16, 16, 3), "classes": 10}
        networks.append(keras_resnet.ResNet([(16, 1, 1)], **options))
        networks[-1].compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    turn = contenders.jax_turn(networks[0], "training", 2, images, labels)
    assert turn() == 2 * 4
    networks[1].fit(images, labels, batch_size=4, epochs=2, shuffle=False, verbose=0)
    groups = (networks[1].trainable_variables, networks[1].non_trainable_variables)
    for ours, theirs in zip(turn.state[:2], groups, strict=True):
        for value, variable in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(value, variable.numpy(), atol=1e-5, err_msg=variable.path)

    profile = profiles.profile(turn, 1, "jax")
    counts = {kind: sum(count for (_, other), (_, count) in profile.items() if other == kind) for _, kind in profile}
    assert counts["convolution"] == counts["gradient of a convolution by kernel"] == 2 * 3
    assert counts["gradient of a convolution by input"] == 2 * 2
    assert {"elementwise (forward)", "elementwise (backward)", "elementwise (update and metrics)"} < set(counts)
    assert turn.step.cost_analysis()["flops"] > 0
    assert contenders.jax_turn(networks[1], "inference", 2, images)() == 2 * 4


@on_jax
def test_outputs_that_differ_are_an_error():
    with pytest.raises(RuntimeError, match=r"the largest difference is 0\.0.*; allowed is 1e-06"):
        contenders.outputs("keras_resnet", dtype="mixed_bfloat16", device="cpu", limit=1e-6, **SMALL)()


@on_torch
def test_steps_on_pytorch():
    turn = contenders.keras_training("keras_resnet", dtype="mixed_bfloat16", steps=2, **SMALL)
    assert turn() == 2 * 4
    assert any("batch_norm" in kind for _, kind in profiles.profile(turn, 1, "torch"))
    assert contenders.keras_inference("keras_resnet", steps=2, **SMALL)() == 2 * 4
    for work in (contenders.torch_training, contenders.torch_inference):
        assert work(dtype="mixed_bfloat16", steps=2, **SMALL)() == 2 * 4


@on_jax
def test_the_command_needs_no_tensorflow(tmp_path):
    options = ["--quick", "--only=products,gpu_inference", "--tables=products,bfloat16", f"--out={tmp_path}"]
    command = [sys.executable, ROOT / "benchmarks/performance.py", *options]
    command.append("--contenders=jax matrix product,keras_resnet on TensorFlow")
    run = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    products, networks = json.loads((tmp_path / "performance.json").read_text())["tables"]
    assert [row["share"] for row in products["rows"]] == [1.0, 1.0]
    assert [row["error"] for row in networks["rows"]] == ["ModuleNotFoundError: No module named 'tensorflow'"]
