"""Training by `model.fit`: from a configuration to a finished workdir."""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import compat, files
from keras_resnet.classification.config import ClassifierConfig
from keras_resnet.classification.pretrained import can_leave, run_info
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.data import pipeline, sources, statistics
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.transforms import NO_NORMALIZATION
from keras_resnet.distribute import collectives
from keras_resnet.distribute.strategy import describe, distributed
from keras_resnet.errors import InputError
from keras_resnet.models.architectures import find
from keras_resnet.training import averaging, finetuning, loop, optimizers
from keras_resnet.training.adaptive import Plateau, WarmUp
from keras_resnet.training.callbacks import BestWeights, Curves, LossWithoutPadding, MetricsLog, TensorBoardLog
from keras_resnet.training.checkpoints import Checkpoints
from keras_resnet.training.losses import BinaryCrossEntropy, CrossEntropy, Top1Error
from keras_resnet.training.schedules import learning_rate


def train(
    config: ClassifierConfig, workdir: str | os.PathLike, strategy: tf.distribute.Strategy | None = None
) -> ClassifierRun:
    """Train the network that `config` names on the data set that it names; see `fit`.

    Args:
        config: the run.
        workdir: as for `fit`.
        strategy: where to train, such as `training.strategy.make` builds; by default on one device. A run may go on
            with another one.

    Raises:
        ValueError: also where `init_weights` do not fit the network.
    """
    strategy = strategy or tf.distribute.get_strategy()
    with loop.scope(strategy, config):
        _set_up(config)
        dataset = collectives.chief_first(
            strategy, lambda: sources.load(config.dataset, config.data_dir, config.download)
        )
        path = info = None
        if config.init_weights:
            path, info = collectives.chief_first(strategy, lambda: finetuning.find(config.init_weights, config.model))
        if info and not config.pixel_mean:
            dataset = finetuning.normalized_as(info, dataset)
        # Built before images are read for their mean, so that wrong arguments are found at once.
        draft = ClassifierRun(pathlib.Path(workdir), config, dataset.info)
        same_size = draft.train_size == draft.image_size
        model = draft.build(classifier_activation=None, image_size=draft.image_size if same_size else (None, None))
        if path:
            finetuning.initialize(model, path, info, config.new_head)
        elif config.freeze_stages or config.freeze_norm:
            raise InputError("freeze_stages and freeze_norm want init_weights: random weights are not worth keeping.")
        return _fit(model, dataset, _opened(draft, dataset, strategy))


def fit(model: keras.Model, dataset: Dataset, config: ClassifierConfig, workdir: str | os.PathLike) -> ClassifierRun:
    """Train a network as `config` says and write everything about it to `workdir`.

    A run that was interrupted goes on from its newest checkpoint, and ends with the weights that it would have had:
    its batches are pure functions of seed and step.

    Args:
        model: f32[B,H,W,3] -> logits f32[B,K]; `config.model` should name it, so that `evaluate`, `predict` and
            `export` can build it again. It trains where it was made: in the scope of a strategy, on its replicas.
        dataset: of `data.load` or `data.from_arrays`; `config.dataset` and `config.data_dir` are only recorded.
        config: the run.
        workdir: folder for `config.json`, `checkpoints/`, `best.weights.h5`, `metrics.jsonl`, `tensorboard/` and
            `curves.png`.

    Returns:
        The run's `ClassifierRun`.

    Raises:
        ValueError: the configuration names something unknown or is not that of the folder's run, or the folder cannot
            be written.
        FloatingPointError: the loss or a weight is not finite.
        errors.Stopped: SIGTERM or SIGINT came; a checkpoint of the current step is saved.
        errors.PeerLost: another worker ended or is silent.
    """
    with loop.scope(model.distribute_strategy, config):
        _set_up(config)
        draft = ClassifierRun(pathlib.Path(workdir), config, dataset.info)
        return _fit(model, dataset, _opened(draft, dataset, model.distribute_strategy))


def _set_up(config: ClassifierConfig) -> None:
    """Seed all generators, and choose deterministic kernels where they are wanted."""
    keras.utils.set_random_seed(config.seed)
    if config.op_determinism:
        tf.config.experimental.enable_op_determinism()


def _opened(draft: ClassifierRun, dataset: Dataset, strategy: tf.distribute.Strategy) -> ClassifierRun:
    """The run's folder, new or that of the same run before, with the statistics of its images."""

    def opened() -> ClassifierRun:
        run = loop.reopened(draft)
        if run.dataset_info.mean is None or (run.config.pixel_mean and not run.pixel_mean.exists()):
            _check(run, dataset)
            run = _with_statistics(run, dataset)
        return run

    return collectives.chief_first(strategy, opened)


def _check(run: ClassifierRun, dataset: Dataset) -> None:
    """Find wrong splits, sizes and views before images are read for their mean, and anything is written."""
    config = run.config
    if config.pixel_mean and run.train_size != run.image_size:
        raise InputError(
            f"pixel_mean must be off where train_size, {run.train_size[0]}, is not image_size, {run.image_size[0]}."
        )
    mean, std = NO_NORMALIZATION
    info = dataclasses.replace(run.dataset_info, mean=mean, std=std)
    run = dataclasses.replace(run, config=dataclasses.replace(config, pixel_mean=False), dataset_info=info)
    pipeline.train(dataset, config.batch_size // config.accumulate, run.train_transform(), split=config.train_split)
    pipeline.evaluate(dataset, 1, run.eval_transform(), split=config.eval_split)


def _fit(model: keras.Model, dataset: Dataset, run: ClassifierRun) -> ClassifierRun:
    config, strategy = run.config, model.distribute_strategy
    rate = learning_rate(config)
    _compile(model, config, rate)
    batches = functools.partial(
        pipeline.train,
        dataset,
        config.batch_size // config.accumulate,
        run.train_transform(),
        split=config.train_split,
        seed=config.seed,
        cache=config.cache,
        threads=config.threads,
        deterministic=config.deterministic,
        max_broken=config.max_broken,
        max_pixels=config.max_pixels,
    )
    headline = _facts(run, model, dataset.count(config.train_split))
    batches()  # so that wrong arguments are found before anything is written
    tests, test_steps, padded = _tests(dataset, run, strategy)
    collectives.chief_first(strategy, run.create)
    with collectives.own_folder(strategy, run) as own:
        rules, average = _rules(model, config, rate), None
        if config.ema or config.swa_start:
            average = rules["average"] = averaging.of(model, config)
        saver = Checkpoints(model, own.checkpoints, config.checkpoint_steps, accumulate=config.accumulate, **rules)
        recorders = [
            MetricsLog(own.metrics),
            TensorBoardLog(own.tensorboard),
            Curves(own.metrics, own.curves),
            BestWeights(own.weights, saver.best, average, run_info(run) if can_leave(run) else None),
        ]
        loop.fit(
            model,
            run,
            batches,
            saver,
            [LossWithoutPadding(padded), *rules.values(), *recorders],
            headline=headline,
            tests=tests,
            test_steps=test_steps,
            average=average,
        )
    return run


def _tests(dataset: Dataset, run: ClassifierRun, strategy: tf.distribute.Strategy):
    """The batches to evaluate on, how many of them make a pass, and their images with padding for each without.

    On one device they end by themselves, and nothing is padded. Elsewhere they are endless: Keras' step counts a batch
    of static shape also where there is none any more.
    """
    config, replicas = run.config, strategy.num_replicas_in_sync
    batch_size = max(256 // replicas, 1) * replicas

    def batches(context, **options) -> tf.data.Dataset:
        return pipeline.evaluate(
            dataset,
            batch_size,
            run.eval_transform(),
            split=config.eval_split,
            threads=config.threads,
            max_pixels=config.max_pixels,
            context=context,
            **options,
        )

    if replicas == 1:
        return batches(None), None, 1.0
    count = dataset.count(config.eval_split)
    steps = -(-count // batch_size)
    shared = distributed(strategy, lambda context: batches(context, pad_batches=True).repeat(), batch_size)
    return shared, steps, steps * batch_size / count


def _compile(model: keras.Model, config: ClassifierConfig, rate) -> None:
    """Fix what the run keeps fixed, and give the model its optimizer, loss and metrics."""
    finetuning.freeze(model, config.freeze_stages, config.freeze_norm)
    optimizer = optimizers.make(
        config.optimizer,
        rate,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        decay_norm=config.decay_norm,
        clip_norm=config.clip_norm,
        accumulate=config.accumulate,
        average=averaging.wrapper(config),
    )
    if config.backbone_lr_mult != 1.0:
        compat.slow_down(optimizer, finetuning.backbone(model), config.backbone_lr_mult)
    if config.precision == "mixed_float16":
        optimizer = compat.LossScale(optimizer)
    optimizers.over_replicas(optimizer)
    loss = CrossEntropy(config.label_smoothing)
    if config.loss == "binary_cross_entropy":
        loss = BinaryCrossEntropy(config.label_smoothing, config.target_threshold)
    model.compile(
        optimizer,
        loss,
        # Weighted, as images that only fill up a batch have weight 0.
        weighted_metrics=[Top1Error()],
        jit_compile=config.jit_compile,
        steps_per_execution=config.steps_per_execution,
    )


def _rules(model: keras.Model, config: ClassifierConfig, rate) -> dict[str, keras.callbacks.Callback]:
    """The callbacks that change the learning rate, by the names under which checkpoints keep their state."""
    rules = {}
    if config.warmup_error:
        rules["warmup"] = WarmUp(rate, config.warmup_error)
    if config.schedule == "plateau":
        rules["plateau"] = Plateau(rate, config.patience)
    return rules


def _with_statistics(run: ClassifierRun, dataset: Dataset) -> ClassifierRun:
    """The run with the mean and standard deviation of its training images, computed and written to its folder."""
    view = run.eval_transform(*NO_NORMALIZATION)
    broken = pipeline.BrokenFiles(dataset.count(run.config.train_split), run.config.max_broken)
    options = {"max_pixels": run.config.max_pixels, "threads": run.config.threads}
    mean, std = statistics.pixel_statistics(dataset, view, run.config.train_split, broken=broken, **options)
    channel_mean = tuple(map(float, mean.mean((0, 1))))
    run = dataclasses.replace(
        run, dataset_info=dataclasses.replace(run.dataset_info, mean=channel_mean, std=tuple(map(float, std)))
    )
    run.create()
    if run.config.pixel_mean:
        content = io.BytesIO()
        np.save(content, mean)
        files.write(run.pixel_mean, content.getvalue())
    return run


def _facts(run: ClassifierRun, model: keras.Model, images: int) -> str:
    """What follows from the configuration, for the first lines of the log."""
    config, info = run.config, run.dataset_info
    parameters = _count(variable for variable in model.weights if "moving" not in compat.path(variable))
    learning = _count(model.trainable_variables)
    network = f"{config.model}: {parameters:,} parameters"
    if config.freeze_stages or config.freeze_norm:
        network += f", {learning:,} of them learning"
    architecture = find(config.model)
    options = {"classes": len(info.class_names), "shortcut": config.shortcut or "default"}
    options["stride_in_1x1"] = config.stride_in_1x1
    height, width = run.train_size
    if architecture and architecture.parameters(**options) == parameters and height == width:
        network += f", {architecture.multiply_adds(input_size=height, **options) / 1e6:.1f}e6 multiply-adds an image"
    batch = f"{config.batch_size} images"
    if config.accumulate > 1:
        batch += f" in {config.accumulate} parts"
    passes = config.steps * config.batch_size / images
    where = describe(model.distribute_strategy, config.batch_size // config.accumulate)
    return (
        f"{network}\n"
        f"{config.steps} steps of {batch}, {passes:.1f} passes over {images} of {info.name}\n"
        f"{config.optimizer}, rate {config.learning_rate:g} {course(config)}; "
        f"{config.precision} on {where}"
    )


def _count(variables) -> int:
    """How many numbers variables hold."""
    return sum(math.prod(variable.shape) for variable in variables)


def course(config: ClassifierConfig) -> str:
    """How the learning rate goes on, in words."""
    start = ""
    if config.warmup_error:
        start = f"after {config.warmup_rate:g} until the training error is below {config.warmup_error:g} %, "
    elif config.warmup_steps:
        rising = config.schedule == "cosine"
        start = f"after {config.warmup_steps} steps {'from' if rising else 'of'} {config.warmup_rate:g}, "
    if config.schedule == "cosine":
        return f"{start}falling on a cosine"
    if config.schedule == "plateau":
        return f"{start}divided by 10 after {config.patience} evaluations without a lower error"
    return f"{start}divided by 10 at {', '.join(map(str, config.decay_steps)) or 'no step'}"
