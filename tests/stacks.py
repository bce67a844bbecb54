"""What both stacks must agree on: `write` leaves a folder that `check`, in the environment of the other, compares with.

    python -m tests.stacks CHECKED WRITTEN

checks one folder and writes another.

Networks of each family with logits, a detector, ten steps of each optimizer, a run with a checkpoint, a SavedModel.
"""

import contextlib
import dataclasses
import functools
import json
import pathlib
import sys
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

import keras_resnet
from keras_resnet import compat
from keras_resnet.classification import train
from keras_resnet.classification.config import ClassifierConfig
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.models import resnet, weights
from keras_resnet.serving import saved_model
from keras_resnet.training import optimizers
from tests.detection import scenes
from tests.networks import one_block

SIDE, CLASSES = 64, 10
FAMILIES = ("ResNet20", "PlainNet20", "ResNet18", "ResNet50")
OPTIMIZERS = ("sgd", "sgdw", "adamw", "lamb")
CONFIG = ClassifierConfig(
    dataset="digits", model="resnet20", batch_size=32, steps=4, decay_steps=(), eval_steps=4, learning_rate=0.05, pad=1
)


@contextlib.contextmanager
def one_block_runs() -> Iterator[None]:
    """Replace the network of runs by one of one block; their files are those of a ResNet-20 but for its depth."""
    constructor = resnet.CONSTRUCTORS["resnet20"]
    resnet.CONSTRUCTORS["resnet20"] = one_block
    try:
        yield
    finally:
        resnet.CONSTRUCTORS["resnet20"] = constructor


def network(name: str) -> keras.Model:
    """A network for logits; those for ImageNet with small images and few classes."""
    small = {} if "20" in name else {"input_shape": (SIDE, SIDE, 3), "classes": CLASSES}
    return getattr(keras_resnet, name)(classifier_activation=None, **small)


def randomise(model: keras.Model, seed: int = 0) -> None:
    """Weights and statistics that are the same in every version of every library."""
    random = np.random.default_rng(seed)
    values = []
    for variable in model.weights:
        shape = tuple(variable.shape)
        if len(shape) > 1:
            values.append(random.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape))
        elif compat.path(variable).endswith(("gamma", "moving_variance")):
            values.append(random.uniform(0.7, 1.2, shape))
        else:
            values.append(random.normal(0, 0.1, shape))
    model.set_weights([value.astype("float32") for value in values])


def images(model: keras.Model, count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, *model.input_shape[1:])).astype("float32")


def logits(model: keras.Model) -> np.ndarray:
    return np.asarray(model(images(model), training=False))


@functools.cache  # a process that checks and writes uses them twice
def ten_steps(name: str) -> list[np.ndarray]:
    """The weights of a network of one block after ten steps on fixed data."""
    model = one_block(input_shape=(8, 8, 3), classes=4, classifier_activation=None)
    randomise(model)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([5], [0.05, 0.005])
    optimizer = optimizers.make(name, rate, weight_decay=0.01, decay_norm=False, clip_norm=5.0)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    random = np.random.default_rng(2)
    x, y = random.normal(size=(160, 8, 8, 3)).astype("float32"), random.integers(0, 4, 160)
    model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    return model.get_weights()


def write(folder: pathlib.Path) -> None:
    """Leave what this stack has."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FAMILIES:
        model = network(name)
        randomise(model)
        weights.save(model, folder / f"{name}.weights.h5")
        np.save(folder / f"{name}.npy", logits(model))
    detector = scenes.tiny()
    randomise(detector)
    weights.save(detector, folder / "detector.weights.h5")
    np.savez(folder / "detector.npz", *_of_layers(detector))
    for name in OPTIMIZERS:
        np.savez(folder / f"{name}.npz", *ten_steps(name))
    with one_block_runs():
        run = train.train(CONFIG, folder / "run")
        version = saved_model.export(run, folder / "exported")
    function = tf.saved_model.load(str(version)).signatures["images"]
    answer = function(images=tf.constant(_pictures()))
    np.save(folder / "probabilities.npy", answer["probabilities"].numpy())


def _of_layers(model: keras.Model) -> list[np.ndarray]:
    """The weights without those of metrics, which Keras 2 counts among a model's."""
    return [variable.numpy() for variable in model.weights if "/" in compat.path(variable)]


def _pictures() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (3, 40, 50, 3)).astype("uint8")


def check(folder: pathlib.Path) -> dict[str, float]:
    """Return the largest differences to what the other stack left, by name."""
    found = {}
    for name in FAMILIES:
        model = network(name)
        weights.load(model, folder / f"{name}.weights.h5")
        found[f"logits {name}"] = _difference([logits(model)], [np.load(folder / f"{name}.npy")])
    detector = scenes.tiny()
    weights.load(detector, folder / "detector.weights.h5")
    with np.load(folder / "detector.npz") as stored:
        found["detector"] = _difference(_of_layers(detector), [stored[key] for key in stored.files])
    for name in OPTIMIZERS:
        with np.load(folder / f"{name}.npz") as stored:
            found[f"steps of {name}"] = _difference(ten_steps(name), [stored[key] for key in stored.files])
    function = tf.saved_model.load(str(folder / "exported" / "1")).signatures["images"]
    answer = function(images=tf.constant(_pictures()))
    found["SavedModel"] = _difference([answer["probabilities"].numpy()], [np.load(folder / "probabilities.npy")])
    run = ClassifierRun.open(folder / "run")
    assert run.config == CONFIG
    with one_block_runs():
        best = run.load()
        found["run"] = _difference([np.asarray(best(images(best), training=False))], [_from_checkpoint(run)])
        further = dataclasses.replace(CONFIG, init_weights=str(folder / "run"), new_head=False, learning_rate=0.0)
        resumed = train.train(further, folder / f"resumed_keras{keras.__version__}").load()
    found["run resumed"] = _difference(resumed.get_weights()[-2:], best.get_weights()[-2:])
    return found


def _from_checkpoint(run: ClassifierRun) -> np.ndarray:
    """The probabilities of the run's network with the weights of its newest checkpoint."""
    model = run.build()
    weights.load(model, tf.train.latest_checkpoint(str(run.checkpoints)) + ".index")
    return np.asarray(model(images(model), training=False))


def _difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    return float(max(np.abs(a - b).max() for a, b in zip(one, other, strict=True)))


if __name__ == "__main__":
    checked, written = map(pathlib.Path, sys.argv[1:])
    differences = check(checked)
    write(written)
    print(json.dumps(differences))
