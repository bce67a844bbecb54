"""Training by `model.fit`: from a configuration to a finished workdir."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.config import Config
from keras_resnet.data import datasets, pipeline, statistics
from keras_resnet.data.examples import Dataset
from keras_resnet.errors import InputError
from keras_resnet.models.architectures import ARCHITECTURES
from keras_resnet.training import optimizers
from keras_resnet.training.callbacks import BestWeights, Curves, MetricsLog, Progress, read_metrics
from keras_resnet.training.checkpoints import Checkpoints, StopOnSignal
from keras_resnet.training.losses import CrossEntropy, Top1Error
from keras_resnet.training.schedules import learning_rate
from keras_resnet.workdir import Workdir


def train(config: Config, workdir: str | os.PathLike) -> Workdir:
    """Train a network as `config` says and write everything about it to `workdir`.

    A run that was interrupted goes on from its newest checkpoint, and ends with the weights that it would have had:
    its batches are pure functions of seed and step.

    Args:
        config: the run.
        workdir: folder for `config.json`, `checkpoints/`, `best.weights.h5`, `metrics.jsonl` and `curves.png`.

    Returns:
        The run's `Workdir`.

    Raises:
        ValueError: the configuration names something unknown or is not that of the folder's run, or the folder cannot
            be written.
        FloatingPointError: the loss or a weight is not finite.
        checkpoints.Stopped: SIGTERM or SIGINT came; a checkpoint of the current step is saved.
    """
    keras.utils.set_random_seed(config.seed)
    if config.op_determinism:
        tf.config.experimental.enable_op_determinism()
    dataset = datasets.load(config.dataset, config.data_dir, config.download)
    run = Workdir(pathlib.Path(workdir), config, dataset.facts)
    if (run.path / "config.json").exists():
        run = _same_run(run)
    if run.facts.mean is None or (config.pixel_mean and not run.pixel_mean.exists()):
        run = _with_statistics(run, dataset)
    model = run.build(classifier_activation=None)
    model.compile(
        optimizers.make(
            config.optimizer,
            learning_rate(config),
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
            decay_norm=config.decay_norm,
            clip_norm=config.clip_norm,
        ),
        CrossEntropy(config.label_smoothing),
        metrics=[Top1Error()],
        # Without XLA: on CPUs it is slower for these networks.
        jit_compile=False,
    )
    batches = functools.partial(
        pipeline.train,
        dataset,
        config.batch_size,
        run.train_view(),
        split=config.train_split,
        seed=config.seed,
        cache=config.cache,
        threads=config.threads,
        deterministic=config.deterministic,
        max_broken=config.max_broken,
        max_pixels=config.max_pixels,
    )
    batches()  # so that wrong arguments are found before anything is written
    tests = pipeline.evaluate(
        dataset, 256, run.eval_view(), split=config.eval_split, threads=config.threads, max_pixels=config.max_pixels
    )
    run.create()
    saver = Checkpoints(model, run.checkpoints, config.checkpoint_steps)
    start = saver.restore()
    print(_facts(run, dataset.count(config.train_split)), flush=True)
    if start:
        print(f"going on from step {start}", flush=True)
    recorders = [
        MetricsLog(run.metrics),
        Curves(run.metrics, run.curves),
        BestWeights(run.weights, saver.best),
        Progress(config.steps, config.batch_size),
    ]
    _evaluate_if_missed(model, tests, run, start, recorders)
    for first, last, evaluations in segments(start, config.steps, config.eval_steps):
        model.fit(
            batches(start_step=first),
            steps_per_epoch=(last - first) // evaluations,
            epochs=evaluations,
            validation_data=tests,
            # The checkpoint comes last, so that it holds what the evaluation found.
            callbacks=[*recorders, StopOnSignal(saver), saver],
            shuffle=False,
            verbose=0,
        )
    return run


def segments(start: int, steps: int, eval_steps: int) -> Iterator[tuple[int, int, int]]:
    """Divide a run so that it is evaluated at each multiple of `eval_steps` and at its end.

    Args:
        start: the step to go on from.
        steps: the last step.
        eval_steps: steps between evaluations.

    Yields:
        (first step, last step, evaluations at equal distances, the last one at the last step).
    """
    first = min(-(-start // eval_steps) * eval_steps, steps)
    if first > start:
        yield start, first, 1
    last = steps // eval_steps * eval_steps
    if last > first:
        yield first, last, (last - first) // eval_steps
    if steps > max(last, first):
        yield max(last, first), steps, 1


def _evaluate_if_missed(model, tests, run: Workdir, step: int, recorders) -> None:
    """Evaluate a checkpoint that a signal left between the last step before an evaluation and this."""
    due = step and (step % run.config.eval_steps == 0 or step == run.config.steps)
    known = {record["step"] for record in read_metrics(run.metrics)} if run.metrics.exists() else set()
    if due and step not in known:
        logs = model.evaluate(tests, return_dict=True, verbose=0)
        for recorder in recorders[:3]:
            recorder.set_model(model)
            recorder.on_epoch_end(0, {f"val_{name}": value for name, value in logs.items()})


def _same_run(run: Workdir) -> Workdir:
    """The run that the folder holds, after a check that it is this one."""
    known = Workdir.open(run.path)
    old, new = dataclasses.asdict(known.config), dataclasses.asdict(run.config)
    changed = [f"{name} {old[name]!r} there, {new[name]!r} here" for name in new if old[name] != new[name]]
    if changed:
        raise InputError(f"workdir {str(run.path)!r} holds a run with another config: {'; '.join(changed)}.")
    if dataclasses.replace(known.facts, mean=None, std=None) != dataclasses.replace(run.facts, mean=None, std=None):
        raise InputError(
            f"workdir {str(run.path)!r} holds a run on other images: dataset {known.facts.name!r} changed."
        )
    return known


def _with_statistics(run: Workdir, dataset: Dataset) -> Workdir:
    """The run with the mean and standard deviation of its training images, computed and written to its folder."""
    view = run.eval_view((0.0,) * 3, (1.0,) * 3)
    broken = pipeline.BrokenFiles(dataset.count(run.config.train_split), run.config.max_broken)
    mean, std = statistics.pixel_statistics(dataset, view, run.config.train_split, broken=broken)
    channel_mean = tuple(map(float, mean.mean((0, 1))))
    run = dataclasses.replace(run, facts=dataclasses.replace(run.facts, mean=channel_mean, std=tuple(map(float, std))))
    run.create()
    if run.config.pixel_mean:
        np.save(run.pixel_mean, mean)
    return run


def _facts(run: Workdir, images: int) -> str:
    """What follows from the configuration, for the first lines of the log."""
    config, facts = run.config, run.facts
    architecture = {name.lower(): net for name, net in ARCHITECTURES.items()}[config.model]
    options = {"classes": len(facts.class_names), "shortcut": config.shortcut or "default"}
    cost = architecture.multiply_adds(input_size=run.image_size[0], **options)
    parameters = architecture.parameters(**options)
    passes = config.steps * config.batch_size / images
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    falls = f"divided by 10 at {', '.join(map(str, config.decay_steps)) or 'no step'}"
    falls = "falling on a cosine" if config.schedule == "cosine" else falls
    device = f"{len(devices)} {devices[0].device_type}"
    return (
        f"{config.model}: {parameters:,} parameters, {cost / 1e6:.1f}e6 multiply-adds an image\n"
        f"{config.steps} steps of {config.batch_size} images, {passes:.1f} passes over {images} of {facts.name}\n"
        f"{config.optimizer}, rate {config.learning_rate:g} {falls}; {config.precision} on {device}"
    )
