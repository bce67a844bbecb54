"""`examples/train_jax.py` on one and on two devices of the CPU."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_resnet

pytestmark = pytest.mark.skipif(keras.backend.backend() != "jax", reason="the example trains on JAX")
ROOT = pathlib.Path(__file__).parent.parent.parent
EXAMPLE = "train_jax"


@pytest.fixture
def data(random, tmp_path):
    """Three classes of noisy images; 37 to test on fill no batch."""
    arrays = {}
    for part, count in (("train", 90), ("test", 37)):
        labels = random.integers(0, 3, count)
        images = 60 * labels[:, None, None, None] + random.integers(0, 60, (count, 16, 16, 3))
        arrays |= {f"x_{part}": images.astype("uint8"), f"y_{part}": labels[:, None]}
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


@pytest.fixture
def distribution():
    """What sets a distribution, which the next test does not have."""
    yield lambda devices: keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=keras.distribution.list_devices()[:devices])
    )
    keras.distribution.set_distribution(None)


def test_two_devices_are_one(example, data, distribution):
    """A network of one block, 20 steps with augmentation; batch norm sees the whole batch on both."""
    assert len(keras.distribution.list_devices()) == 2
    images, labels, _, _, classes = example.arrays(data)
    ends = []
    for devices in (1, 2):
        distribution(devices)
        keras.utils.set_random_seed(0)
        options = {"input_shape": images.shape[1:], "classes": classes, "classifier_activation": None}
        network = keras_resnet.ResNet([(8, 1, 1)], block="basic", stem="cifar", **options)
        before = network.get_weights()
        model = example.trainable(network, images, 20, 0.05, seed=0)
        model.fit(example.Batches(images, labels, 16, 20, seed=0), shuffle=False, verbose=0)
        ends.append(network.get_weights())
    assert max(np.abs(one - two).max() for one, two in zip(before, ends[0], strict=True)) > 0.01
    for one, two in zip(*ends, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5)


def run(devices, data, weights, *arguments):
    command = [sys.executable, "examples/train_jax.py", f"--data={data}", f"--weights={weights}", *arguments]
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_the_script(data, tmp_path):
    weights = tmp_path / "a.weights.h5"
    result = run(2, data, weights, "--steps=2", "--batch_size=16")
    assert result.returncode == 0, result.stderr
    assert "2 devices, 8 images of a batch on each: " in result.stdout
    assert " % of 37 images" in result.stdout
    assert weights.stat().st_size > 1_000_000


def test_a_batch_that_does_not_divide(data, tmp_path):
    result = run(2, data, tmp_path / "unused.weights.h5", "--steps=1", "--batch_size=15")
    assert result.returncode == 1
    assert "batch_size must be a multiple of the 2 devices; got 15" in result.stdout + result.stderr
    assert not (tmp_path / "unused.weights.h5").exists()


def test_images_are_cropped_and_mirrored(example, random):
    """Each result is one of the crops made by hand, and not all are the same one."""
    images = random.normal(size=(64, 5, 6, 3)).astype("float32")
    layer = example.CropAndMirror(pad=1, seed=3)
    np.testing.assert_array_equal(layer(images, training=False), images)
    padded = np.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    crops = [padded[:, top : top + 5, left : left + 6] for top in range(3) for left in range(3)]
    crops += [crop[:, :, ::-1] for crop in crops]
    results = np.asarray(layer(images, training=True))
    chosen = [
        [number for number, crop in enumerate(crops) if np.array_equal(result, crop[place])]
        for place, result in enumerate(results)
    ]
    assert all(len(numbers) == 1 for numbers in chosen)
    assert len({number for (number,) in chosen}) > 9


def test_batches_are_permutations(example):
    images = np.arange(10)
    batches = example.Batches(images, images, 4, 5, seed=0)
    seen = np.concatenate([batches[step][0] for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    np.testing.assert_array_equal(batches[2][1], example.Batches(images, images, 4, 5, seed=0)[2][1])
