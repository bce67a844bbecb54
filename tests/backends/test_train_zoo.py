"""`examples/train_zoo.py` with a network of one block on the CPU."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.classification.config import ClassifierConfig
from keras_resnet.models import resnet, weights
from keras_resnet.training.losses import CrossEntropy
from keras_resnet.training.optimizers import SGD

pytestmark = pytest.mark.skipif(keras.backend.backend() != "jax", reason="the example trains on JAX")
EXAMPLE = "train_zoo"


def one_block(**options):
    options.pop("dtype", None)
    return keras_resnet.ResNet([(8, 1, 1)], block="basic", stem="cifar", **options)


@pytest.fixture(scope="module", autouse=True)
def small_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.CONSTRUCTORS, "resnet20", one_block)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ten classes of noisy images; 37 to test on."""
    random, arrays = np.random.default_rng(0), {}
    for part, count in (("train", 300), ("test", 37)):
        labels = random.permutation(np.arange(count) % 10)
        images = 20 * labels[:, None, None, None] + random.integers(0, 50, (count, 8, 8, 3))
        arrays |= {f"x_{part}": images.astype("uint8"), f"y_{part}": labels[:, None]}
    path = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(path, **arrays)
    return path


def run(example, data, out, *arguments):
    """Run the script in this process."""
    example.FLAGS(["train_zoo.py", f"--data={data}", f"--out={out}", "--steps=6", "--eval_steps=2", *arguments])
    try:
        example.main([])
    finally:
        example.FLAGS.unparse_flags()
    return out / "cifar10_resnet20-seed0"


@pytest.fixture(scope="module")
def whole(example, data, tmp_path_factory):
    return run(example, data, tmp_path_factory.mktemp("whole"))


def final_weights(folder):
    model = one_block(input_shape=(8, 8, 3), classes=10, classifier_activation=None)
    weights.load(model, folder / "best.weights.h5")
    return model.get_weights()


def test_a_run_folder_and_results(whole):
    content = json.loads((whole / "config.json").read_text())
    config = ClassifierConfig.from_dict(content["config"])
    assert (config.model, config.steps, config.decay_steps, config.eval_steps) == ("resnet20", 6, (3, 4), 2)
    assert content["task"] == "classification"
    assert content["dataset"]["splits"] == {"train": 300, "test": 37}
    records = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [2, 4, 6]
    (result,) = json.loads((whole.parent / "results.json").read_text())
    assert result["val_top1_error"] == records[-1]["val_top1_error"]
    stem, first, second, shortcut, head = 27 * 16 + 32, 9 * 16 * 8 + 16, 9 * 8 * 8 + 16, 16 * 8 + 16, 8 * 10 + 10
    assert result["parameters"] == stem + first + second + shortcut + head
    assert (result["seed"], result["steps"], result["preset"]) == (0, 6, "cifar10_resnet20")


def test_an_interrupted_run_ends_equal(example, data, whole, tmp_path, monkeypatch):
    save = example.save

    def killed(path, state, seconds):
        save(path, state, seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr(example, "save", killed)
    for step in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            run(example, data, tmp_path)
        records = (tmp_path / "cifar10_resnet20-seed0/metrics.jsonl").read_text().splitlines()
        assert json.loads(records[-1])["step"] == step
    monkeypatch.undo()
    resumed = run(example, data, tmp_path)
    for value, expected in zip(final_weights(resumed), final_weights(whole), strict=True):
        np.testing.assert_array_equal(value, expected)
    assert (resumed / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


def test_steps_in_one_call_are_the_same_steps(example, data, whole, tmp_path):
    together = run(example, data, tmp_path, "--steps_per_call=2")
    for value, expected in zip(final_weights(together), final_weights(whole), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-5)


def test_a_finished_run_is_not_repeated(example, data, whole, capsys):
    before = (whole / "best.weights.h5").stat().st_mtime_ns
    run(example, data, whole.parent)
    assert (whole / "best.weights.h5").stat().st_mtime_ns == before
    assert "cifar10_resnet20 seed 0: test error " in capsys.readouterr().out


def test_another_configuration_is_refused(example, data, whole):
    with pytest.raises(SystemExit, match="holds a run with another configuration; choose another --out"):
        run(example, data, whole.parent, "--eval_steps=3")


def test_wrong_presets(example, data, tmp_path):
    with pytest.raises(SystemExit, match=r"presets must be one of .*got 'cifar10_resnet21'"):
        run(example, data, tmp_path, "--presets=cifar10_resnet21")
    with pytest.raises(SystemExit, match="CIFAR-sized images with the paper's recipe; got 'imagenet_resnet18'"):
        run(example, data, tmp_path, "--presets=imagenet_resnet18")
    assert not list(tmp_path.iterdir())


def test_110_layers_warm_up(example):
    example.FLAGS(["train_zoo.py"])
    config = example.configuration("cifar10_resnet110", 3)
    assert (config.warmup_steps, config.warmup_rate, config.warmup_error, config.seed) == (400, 0.01, 0.0, 3)
    assert (config.steps, config.decay_steps) == (64_000, (32_000, 48_000))
    example.FLAGS.unparse_flags()


def test_the_steps_are_those_of_keras(example, data):
    """Five steps without augmentation against `train_on_batch`."""
    example.FLAGS(["train_zoo.py", "--steps=5"])
    config = dataclasses.replace(example.configuration("cifar10_resnet20", 0), pad=0, mirror=False, batch_size=16)
    example.FLAGS.unparse_flags()
    images, labels, *rest = example.arrays(data, "cifar10")
    trainer = example.Trainer(config, (images, labels, *rest))
    reference = keras.models.clone_model(trainer.model)
    reference.set_weights(trainer.model.get_weights())
    # Decay at steps 2 and 3 of 5; Keras' schedule keeps a rate up to and including its boundary.
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([1, 2], [0.1, 0.01, 0.001])
    reference.compile(SGD(rate, momentum=0.9, l2=1e-4), CrossEntropy())
    index = example.indices(0, 0, 5, 16, len(labels))
    state, (losses, _) = trainer.train(trainer.state(), trainer.data, 0, index)
    normalized = (images - trainer.mean) / trainer.std
    expected = [reference.train_on_batch(normalized[chosen].astype("float32"), labels[chosen]) for chosen in index]
    np.testing.assert_allclose(losses[0], expected[0], rtol=1e-5)
    trainer.assign(state)
    for value, wanted in zip(trainer.model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(value, wanted, atol=2e-5)


def test_images_are_cropped_and_mirrored(example, random):
    """Each result is one of the crops made by hand, and not all are the same one."""
    import jax  # not in the other environments

    images = random.normal(size=(64, 5, 6, 3)).astype("float32")
    padded = np.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    crops = [padded[:, top : top + 5, left : left + 6] for top in range(3) for left in range(3)]
    crops += [crop[:, :, ::-1] for crop in crops]
    results = np.asarray(example.augment(images, jax.random.key(3), 1, True))
    chosen = [
        [number for number, crop in enumerate(crops) if np.array_equal(result, crop[place])]
        for place, result in enumerate(results)
    ]
    assert all(len(numbers) == 1 for numbers in chosen)
    assert len({number for (number,) in chosen}) > 9
    plain = np.asarray(example.augment(images, jax.random.key(3), 0, False))
    np.testing.assert_array_equal(plain, images)


def test_indices_are_permutations(example):
    index = example.indices(1, 0, 5, 4, 10)
    assert sorted(index.ravel()[:10]) == sorted(index.ravel()[10:]) == list(range(10))
    np.testing.assert_array_equal(
        np.concatenate([example.indices(1, step, step + 1, 4, 10) for step in range(5)]), index
    )
    assert not np.array_equal(example.indices(2, 0, 5, 4, 10), index)
