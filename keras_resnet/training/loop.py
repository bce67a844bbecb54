"""Training by `model.fit`: from a configuration to a finished workdir."""

from __future__ import annotations

import os
import pathlib

import keras

from keras_resnet.config import Config
from keras_resnet.data import datasets, pipeline
from keras_resnet.models.architectures import ARCHITECTURES
from keras_resnet.training.callbacks import BestWeights, Curves, MetricsLog
from keras_resnet.training.optimizers import SGD
from keras_resnet.workdir import Workdir


def train(config: Config, workdir: str | os.PathLike, verbose: str | int = "auto") -> Workdir:
    """Train a network as `config` says and write everything about it to `workdir`.

    Args:
        config: the run.
        workdir: folder for `config.json`, `best.weights.h5`, `metrics.jsonl` and `curves.png`.
        verbose: as in `model.fit`.

    Returns:
        The run's `Workdir`.

    Raises:
        ValueError: the configuration names something unknown, or the folder cannot be written.
    """
    keras.utils.set_random_seed(config.seed)
    dataset = datasets.load(config.dataset, config.data_dir, config.download)
    run = Workdir(pathlib.Path(workdir), config, dataset.facts)
    model = run.build(classifier_activation=None)
    batches = pipeline.train(dataset, config.batch_size, seed=config.seed, pad=config.pad, mirror=config.mirror)
    tests = pipeline.evaluate(dataset, 256)
    rates = [config.learning_rate / 10**i for i in range(len(config.decay_steps) + 1)]
    rate = (
        keras.optimizers.schedules.PiecewiseConstantDecay(list(config.decay_steps), rates)
        if config.decay_steps
        else config.learning_rate
    )
    model.compile(
        SGD(rate, config.momentum, l2=config.weight_decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    run.create()
    print(_facts(run), flush=True)
    epoch = min(config.eval_steps, config.steps)
    model.fit(
        batches,
        steps_per_epoch=epoch,
        epochs=-(-config.steps // epoch),
        validation_data=tests,
        callbacks=[MetricsLog(run.metrics), Curves(run.metrics, run.curves), BestWeights(run.weights)],
        shuffle=False,
        verbose=verbose,
    )
    return run


def _facts(run: Workdir) -> str:
    """What follows from the configuration, for the first line of the log."""
    config, facts = run.config, run.facts
    architecture = {name.lower(): net for name, net in ARCHITECTURES.items()}[config.model]
    cost = architecture.multiply_adds(input_size=facts.image_size[0], classes=len(facts.class_names))
    parameters = architecture.parameters(classes=len(facts.class_names))
    passes = config.steps * config.batch_size / facts.splits["train"]
    return (
        f"{config.model}: {parameters:,} parameters, {cost / 1e6:.1f}e6 multiply-adds an image; "
        f"{config.steps} steps of {config.batch_size} images, {passes:.1f} passes over {config.dataset}"
    )
