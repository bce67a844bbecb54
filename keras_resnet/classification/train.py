"""Training of classifiers: from a configuration to a finished run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import compat, files, quantization
from keras_resnet.classification.config import PRESETS, ClassifierConfig
from keras_resnet.classification.pretrained import is_portable, run_info
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.data import pipeline, sources, statistics
from keras_resnet.data.dataset import Dataset, Files
from keras_resnet.data.transforms import NO_NORMALIZATION
from keras_resnet.distribute import collectives
from keras_resnet.errors import InputError, counted
from keras_resnet.experiment.config import resolved
from keras_resnet.models.architectures import find
from keras_resnet.ops import image
from keras_resnet.training import averaging, checkpoints, finetuning, loop
from keras_resnet.training.adaptive import Plateau, WarmUp
from keras_resnet.training.averaging import WeightAverage
from keras_resnet.training.distillation import distilled
from keras_resnet.training.losses import BinaryCrossEntropy, CrossEntropy, Top1Error
from keras_resnet.training.schedules import Rate

CALIBRATION_IMAGES, CALIBRATION_BATCH = 256, 32
"""Training images from which the first scales of `quantize` are set, and how many the network gets at a time."""


def train(
    config: ClassifierConfig | str, workdir: str | os.PathLike, strategy: tf.distribute.Strategy | None = None
) -> ClassifierRun:
    """Train the network of a configuration on its data set; see `fit`.

    Args:
        config: the configuration, or the name of a preset.
        workdir: as for `fit`.
        strategy: where to train, such as from `distribute.strategy.make`; one device by default. A run may be resumed
            with another strategy.

    Returns:
        The run.

    Raises:
        ValueError: as for `fit`, or `init_weights` do not fit the network.
    """
    config = resolved(config, ClassifierConfig, PRESETS)
    strategy = strategy or tf.distribute.get_strategy()
    with _scope(strategy, config, workdir):
        dataset = collectives.chief_first(
            strategy, lambda: sources.load(config.dataset, config.data_dir, config.download, config.sequential)
        )
        if len(dataset.info.class_names) < 2:
            raise InputError(
                f"dataset must have at least two classes; {dataset.info.name!r} has {list(dataset.info.class_names)}."
            )
        if collectives.is_chief(strategy):
            print(dataset.describe(), flush=True)
        for name in ("train_split", "eval_split"):
            dataset.count(getattr(config, name), name)  # before weights are downloaded
        path = info = None
        if config.init_weights:
            path, info = collectives.chief_first(strategy, lambda: finetuning.find(config.init_weights, config.model))
        if info and not config.pixel_mean:
            dataset = finetuning.normalized_as(info, dataset)
        # Build the network before computing statistics of the images, so that invalid arguments are found at once.
        draft = ClassifierRun(pathlib.Path(workdir), config, dataset.info)
        same_size = draft.train_size == draft.image_size
        model = draft.build(classifier_activation=None, image_size=draft.image_size if same_size else (None, None))
        if path:
            finetuning.initialize(model, path, info, config.new_head)
        elif config.quantize:
            raise InputError("quantize requires init_weights, such as the folder of the float network's run.")
        elif config.freeze_stages or config.freeze_norm:
            raise InputError(
                "freeze_stages and freeze_norm require init_weights, because random weights are not worth keeping."
            )
        return _fit(model, dataset, _open(draft, dataset, strategy))


def fit(
    model: keras.Model, dataset: Dataset, config: ClassifierConfig | str, workdir: str | os.PathLike
) -> ClassifierRun:
    """Train a network according to a configuration and write everything about the run to a folder.

    An interrupted run resumes from its newest checkpoint and ends with the weights of an uninterrupted run, because its
    batches are pure functions of seed and step.

    Args:
        model: f32[B,H,W,3] -> logits f32[B,K]; `config.model` should name it, so that `evaluate`, `predict` and
            `export` can build it again. It trains in the strategy in whose scope it was built.
        dataset: from `data.sources.load` or `data.sources.from_arrays`. The run records its name instead of
            `config.dataset`, so that `evaluate` loads these images or, for arrays, asks for a data set.
        config: the configuration, or the name of a preset.
        workdir: folder for `config.json`, `checkpoints/`, `best.weights.h5`, `metrics.jsonl`, `tensorboard/` and
            `curves.png`.

    Returns:
        The run.

    Raises:
        ValueError: the model does not fit the data set, the configuration is invalid or differs from that of the run in
            the folder, or the folder cannot be written.
        FloatingPointError: the loss or a weight is not finite.
        errors.Stopped: SIGTERM or SIGINT was received; a checkpoint of the current step is saved.
        errors.PeerLost: another worker ended or does not answer.
    """
    config = dataclasses.replace(resolved(config, ClassifierConfig, PRESETS), dataset=dataset.info.name)
    strategy = model.distribute_strategy
    with _scope(strategy, config, workdir):
        draft = ClassifierRun(pathlib.Path(workdir), config, dataset.info)
        _check_model(model, draft)
        return _fit(model, dataset, _open(draft, dataset, strategy))


def _check_model(model: keras.Model, run: ClassifierRun) -> None:
    """Raise `InputError` unless a model takes the run's images and returns logits of its classes."""
    classes, shape = len(run.dataset_info.class_names), model.output_shape
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[1] != classes:
        raise InputError(f"model must have an output for each of the data set's {classes} classes; it has {shape}.")
    activation = getattr(getattr(model.layers[-1], "activation", None), "__name__", "")
    if activation in ("softmax", "sigmoid"):
        raise InputError(f"model must return logits: build it with classifier_activation=None, not {activation!r}.")
    for size in (run.train_size, run.image_size):
        inputs = model.input_shape
        if (
            len(inputs) != 4
            or inputs[3] != 3
            or any(a not in (None, b) for a, b in zip(inputs[1:3], size, strict=True))
        ):
            raise InputError(f"model must take images of {size[0]}x{size[1]}x3; its input is {inputs}.")


@contextlib.contextmanager
def _scope(strategy: tf.distribute.Strategy, config: ClassifierConfig, workdir: str | os.PathLike) -> Iterator[None]:
    """Enter the scope of a run, with deterministic kernels if the configuration requests them."""
    with loop.scope(strategy, config, workdir, config.accumulate):
        if config.op_determinism:
            tf.config.experimental.enable_op_determinism()
        yield


def _open(draft: ClassifierRun, dataset: Dataset, strategy: tf.distribute.Strategy) -> ClassifierRun:
    """Return the run of a folder, new or earlier, with the statistics of its images."""

    def opened() -> ClassifierRun:
        run = loop.reopened(draft)
        checked = not (run.path / "config.json").exists() and isinstance(dataset.examples(run.config.eval_split), Files)
        measured = run.dataset_info.mean is None or (run.config.pixel_mean and not run.pixel_mean.exists())
        if checked or measured:
            _check(run, dataset)
        if checked:
            _check_eval_images(run, dataset)
        if measured:
            run = _with_statistics(run, dataset)
        return run

    return collectives.chief_first(strategy, opened)


def _check(run: ClassifierRun, dataset: Dataset) -> None:
    """Check splits, sizes and transforms before files are read, which can take minutes; `loop.fit` checks them too."""
    config = run.config
    if config.pixel_mean and run.train_size != run.image_size:
        raise InputError(
            f"pixel_mean must be off if train_size, {run.train_size[0]}, is not image_size, {run.image_size[0]}."
        )
    mean, std = NO_NORMALIZATION
    info = dataclasses.replace(run.dataset_info, mean=mean, std=std)
    run = dataclasses.replace(run, config=dataclasses.replace(config, pixel_mean=False), dataset_info=info)
    pipeline.train(dataset, config.batch_size // config.accumulate, run.train_transform(), split=config.train_split)
    pipeline.evaluate(dataset, 1, run.eval_transform(), split=config.eval_split)


def _check_eval_images(run: ClassifierRun, dataset: Dataset) -> None:
    """Check that all images of eval_split can be decoded, since every one counts in an evaluation."""
    config = run.config
    transform = run.eval_transform(*NO_NORMALIZATION)
    pipeline.check_images(dataset, transform, config.eval_split, threads=config.threads, max_pixels=config.max_pixels)


def _with_statistics(run: ClassifierRun, dataset: Dataset) -> ClassifierRun:
    """Return the run with the mean and standard deviation of its training images, and write them to its folder."""
    config = run.config
    broken = pipeline.BrokenFiles(dataset.count(config.train_split), config.max_broken)
    mean, std = statistics.pixel_statistics(
        dataset,
        run.eval_transform(*NO_NORMALIZATION),
        config.train_split,
        broken=broken,
        max_pixels=config.max_pixels,
        threads=config.threads,
    )
    channel_mean = tuple(map(float, mean.mean((0, 1))))
    info = dataclasses.replace(run.dataset_info, mean=channel_mean, std=tuple(map(float, std)))
    run = dataclasses.replace(run, dataset_info=info)
    run.create()
    if config.pixel_mean:
        content = io.BytesIO()
        np.save(content, mean)
        files.write(run.pixel_mean, content.getvalue())
    return run


def _fit(model: keras.Model, dataset: Dataset, run: ClassifierRun) -> ClassifierRun:
    """Train a model in a run's folder."""
    config = run.config
    if config.quantize:
        model = _quantized(model, dataset, run)
    if config.teacher:
        model = distilled(model, _teacher(run), config.teacher_weight, config.teacher_temperature)
    rate = _compile(model, config)
    train_batches = functools.partial(
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

    def eval_batches(batch_size: int, **options: Any) -> tf.data.Dataset:
        return pipeline.evaluate(
            dataset,
            batch_size,
            run.eval_transform(),
            split=config.eval_split,
            threads=config.threads,
            max_pixels=config.max_pixels,
            **options,
        )

    loop.fit(
        model,
        run,
        train_batches,
        tests=loop.eval_batches(model.distribute_strategy, eval_batches, dataset.count(config.eval_split)),
        monitor="val_top1_error",
        label="top-1 error (%)",
        stateful=_rate_callbacks(config, rate),
        average=_average(model, config),
        accumulate=config.accumulate,
        info=run_info(run) if is_portable(run) else None,
        log=loop.headline(
            model,
            run,
            dataset.count(config.train_split),
            network=_describe(model, run),
            accumulate=config.accumulate,
            warmup_error=config.warmup_error,
            patience=config.patience,
        ),
    )
    return run


def _quantized(model: keras.Model, dataset: Dataset, run: ClassifierRun) -> keras.Model:
    """Return the network that is trained for an int8 file; a resumed run has its scales in the checkpoint."""
    model = run.prepare(model)
    if checkpoints.newest(run.checkpoints) is None:
        config = run.config
        count = min(CALIBRATION_IMAGES, dataset.count(config.train_split))
        batches = pipeline.evaluate(
            dataset.sample(config.train_split, count),
            CALIBRATION_BATCH,
            run.eval_transform(),
            split="picked",
            threads=config.threads,
            max_pixels=config.max_pixels,
        )
        quantization.calibrate(model, (images for images, *_ in batches))
    return model


def _teacher(run: ClassifierRun) -> Callable[[Any], Any]:
    """Return the function of the run's images that computes the teacher's logits, f32[B,H,W,3] -> f32[B,K]."""
    teacher = ClassifierRun.open(run.config.teacher, "teacher")
    if teacher.dataset_info.class_names != run.dataset_info.class_names:
        raise InputError(
            f"teacher must be a run of the same {counted(len(run.dataset_info.class_names), 'class', 'classes')}; "
            f"{run.config.teacher!r} has {', '.join(teacher.dataset_info.class_names[:5])}, ..."
        )
    network = teacher.load_float(classifier_activation=None, image_size=(None, None))

    def logits(images: Any) -> Any:
        pixels = images * np.asarray(run.std, "float32") + np.asarray(run.mean, "float32")
        return network(image.normalize(pixels, teacher.mean, teacher.std), training=False)

    return logits


def _compile(model: keras.Model, config: ClassifierConfig) -> Rate:
    """Freeze and compile a model; return the learning rate."""
    finetuning.freeze(model, config.freeze_stages, config.freeze_norm)
    loss: keras.losses.Loss = CrossEntropy(config.label_smoothing)
    if config.loss == "binary_cross_entropy":
        loss = BinaryCrossEntropy(config.label_smoothing, config.target_threshold)
    rate = loop.learning_rate(config, config.warmup_error)
    loop.compile_model(
        model,
        config,
        rate=rate,
        accumulate=config.accumulate,
        slow=finetuning.backbone_variables(model) if config.backbone_lr_mult != 1.0 else (),
        slow_multiplier=config.backbone_lr_mult,
        average=_average_in_optimizer(config),
        loss=loss,
        # Weighted, because the images that pad a batch have weight 0.
        weighted_metrics=[Top1Error()],
        jit_compile=config.jit_compile,
        steps_per_execution=config.steps_per_execution,
    )
    return rate


def _rate_callbacks(config: ClassifierConfig, rate: Any) -> dict[str, keras.callbacks.Callback]:
    """Return the callbacks that change the learning rate, by their names in checkpoints."""
    callbacks: dict[str, keras.callbacks.Callback] = {}
    if config.warmup_error:
        callbacks["warmup"] = WarmUp(rate, config.warmup_error)
    if config.schedule == "plateau":
        callbacks["plateau"] = Plateau(rate, config.patience)
    return callbacks


def _average_in_optimizer(config: ClassifierConfig) -> Callable | None:
    """Return the function that lets the optimizer average the weights; None if it does not."""
    if config.average_weights != "trained" or not (config.ema or config.swa_start):
        return None
    return averaging.in_optimizer(config.ema, config.ema_steps, config.swa_start)


def _average(model: keras.Model, config: ClassifierConfig) -> WeightAverage | None:
    """Return the average of a compiled model's weights that the configuration requests."""
    if not (config.ema or config.swa_start):
        return None
    trained = config.average_weights == "trained"
    average = WeightAverage(
        model, config.ema, config.ema_steps, config.accumulate, start=config.swa_start, trained=trained
    )
    if _average_in_optimizer(config):
        average.take_from(model.optimizer)
    return average


def _describe(model: keras.Model, run: ClassifierRun) -> str:
    """Describe the network, its size and its cost, for the log."""
    config = run.config
    parameters = loop.count_numbers(variable for variable in model.weights if "moving" not in compat.path(variable))
    text = f"{config.model}: {parameters:,} parameters"
    if config.freeze_stages or config.freeze_norm:
        text += f" ({loop.count_numbers(model.trainable_variables):,} trainable)"
    architecture = find(config.model)
    options = {
        "classes": len(run.dataset_info.class_names),
        "shortcut": config.shortcut or "default",
        "stride_in_1x1": config.stride_in_1x1,
    }
    height, width = run.train_size
    if architecture and architecture.parameters(**options) == parameters and height == width:
        text += f", {architecture.multiply_adds(input_size=height, **options) / 1e6:.1f}e6 multiply-adds per image"
    return text
