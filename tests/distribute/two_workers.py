"""What each of two workers does in `test_collectives.py`, which starts them by `distribute.launch.run`."""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent.parent))

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import errors
from keras_resnet.classification import evaluate, train
from keras_resnet.classification.config import ClassifierConfig
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.data import sources
from keras_resnet.distribute import collectives, strategy
from keras_resnet.distribute.multi_worker import MultiWorkerStrategy
from keras_resnet.models import resnet
from tests.networks import one_block
from tests.runs import signal_at

CONFIG = ClassifierConfig(
    dataset="synthetic:8x8x4",
    batch_size=16,
    steps=6,
    learning_rate=0.05,
    decay_steps=(),
    eval_steps=4,
    checkpoint_steps=50,
    eval_split="test[:50]",
    pad=0,
    mirror=False,
    op_determinism=True,
)
"""Small and without augmentation, whose draws depend on the number of workers; 50 images fill no batch."""

SAME = dataclasses.replace(CONFIG, steps=20, eval_steps=20, synchronized_norm=True)
"""For the comparison of strategies: what one device, two replicas and two workers must agree in."""

ACCUMULATED = dataclasses.replace(SAME, steps=6, eval_steps=6, accumulate=2, clip_norm=1.0)
"""The same with two micro-batches in each step."""

ELASTIC = dataclasses.replace(SAME, steps=6, eval_steps=6, checkpoint_steps=2)
"""The same with a checkpoint to resume from."""


def variables_of_each_worker(run_strategy, folder):
    """Train without synchronised batch norm and write every variable that this worker ends with."""
    dataset = sources.load(CONFIG.dataset)
    with run_strategy.scope():
        keras.utils.set_random_seed(collectives.index(run_strategy))  # the chief's first weights are everyone's
        model = one_block(input_shape=(8, 8, 3), classes=4, classifier_activation=None)
    train.fit(model, dataset, CONFIG, folder / "apart")
    values = {variable.path: variable.numpy() for variable in model.variables}
    np.savez(folder / f"apart{collectives.index(run_strategy)}.npz", **values)


def stopped_and_resumed(run_strategy, folder):
    """A signal to worker 1 alone, in step 3."""
    with signal_at(3) if collectives.index(run_strategy) == 1 else contextlib.nullcontext():
        try:
            train.train(CONFIG, folder / "stopped", run_strategy)
        except errors.Stopped as stopped:
            message = str(stopped)
    train.train(CONFIG, folder / "stopped", run_strategy)
    return message


def different(run_strategy, folder):
    """The workers have different seeds."""
    config = dataclasses.replace(CONFIG, seed=collectives.index(run_strategy))
    try:
        train.train(config, folder / "different", run_strategy)
    except errors.InputError as error:
        return str(error)


def without_the_correction(run_strategy):
    """What Keras says under TensorFlow's own strategy."""
    own, found = MultiWorkerStrategy.reduce, {}
    del MultiWorkerStrategy.reduce
    images, labels = np.zeros([4, 8, 8, 3], "float32"), np.zeros([4], "int32")
    for built in (False, True):
        with run_strategy.scope():
            model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
            model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
        if built:
            model._maybe_symbolic_build = lambda **_: None
        batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
        try:
            model.fit(run_strategy.experimental_distribute_dataset(batches), epochs=1, verbose=0)
            found[built] = ""
        except (AttributeError, TypeError, ValueError, tf.errors.OpError) as error:
            found[built] = re.sub(r"numpy=\narray\(.*?\)>", "", str(error), flags=re.DOTALL)[-1000:]
    MultiWorkerStrategy.reduce = own
    return list(found.values())


def evaluated(run_strategy, folder):
    """The rows of an evaluation of the network that both have trained."""
    found = []
    for size in (33, 1000):
        config = evaluate.EvalConfig(views=("single",), batch_size=size)
        source = ClassifierRun.open(folder / "same")
        for row in evaluate.evaluate([source], config, strategy=run_strategy).rows:
            found.append(row.result.numbers())
    return found


def lose_one(run_strategy, folder):
    """Kill worker 1 in step 3; a worker that is alone has none to lose."""
    with signal_at(3, signal.SIGKILL) if collectives.index(run_strategy) == 1 else contextlib.nullcontext():
        try:
            train.train(ELASTIC, folder / "elastic", run_strategy)
        except errors.PeerLost as lost:
            print(lost, flush=True)
            os._exit(lost.code)


def main(folder):
    resnet.CONSTRUCTORS["resnet20"] = one_block
    run_strategy = strategy.make(timeout=60)
    if collectives.count(run_strategy) == 2:
        together(run_strategy, folder)
    lose_one(run_strategy, folder)


def together(run_strategy, folder):
    """What needs both workers."""
    number = collectives.index(run_strategy)
    train.train(SAME, folder / "same", run_strategy)
    train.train(ACCUMULATED, folder / "accumulated", run_strategy)
    variables_of_each_worker(run_strategy, folder)
    said = {
        "stopped": stopped_and_resumed(run_strategy, folder),
        "different": different(run_strategy, folder),
        "evaluated": evaluated(run_strategy, folder),
        "gathered": [part.decode() for part in collectives.gather(run_strategy, b"worker" * (1 + number))],
        "uncorrected": without_the_correction(run_strategy),
    }
    (folder / f"said{number}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
