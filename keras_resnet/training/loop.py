"""The training loop of all tasks: resumable run folders, checkpoints, evaluations and logs around `model.fit`.

A task derives a configuration from `BaseConfig` and a run folder from `Run`. Its `train` opens the folder, builds and
compiles the model in the scope of the strategy, and calls `fit`:

    def train(config, workdir, strategy=None):
        strategy = strategy or tf.distribute.get_strategy()
        with loop.scope(strategy, config, workdir):
            run = loop.open_run(MyRun(pathlib.Path(workdir), config, dataset_info), strategy)
            model = run.build()
            loop.compile_model(model, config, loss="mse")
            loop.fit(model, run, batches, tests=tests, monitor="val_loss")
        return run

`batches` is a function of `start_step` and `context`: the endless batches from a step on, of which each worker gets its
part. They should be a pure function of seed and step, so that a resumed run ends with the same weights as an
uninterrupted run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import keras
import tensorflow as tf

from keras_resnet import files
from keras_resnet.distribute import collectives
from keras_resnet.distribute.environment import versions
from keras_resnet.distribute.strategy import describe, distributed, per_replica
from keras_resnet.errors import InputError, counted
from keras_resnet.experiment import names
from keras_resnet.experiment.config import BaseConfig
from keras_resnet.experiment.run import Run
from keras_resnet.models import weights
from keras_resnet.models.weights.info import ModelInfo
from keras_resnet.training import finetuning, optimizers, schedules, trackers
from keras_resnet.training.adaptive import EarlyStopping
from keras_resnet.training.averaging import WeightAverage
from keras_resnet.training.callbacks import (
    BestWeights,
    Curves,
    Logs,
    LossWithoutPadding,
    MetricsLog,
    Progress,
)
from keras_resnet.training.checkpoints import Checkpoints, StopOnSignal

RunT = TypeVar("RunT", bound=Run)

EVAL_BATCH_SIZE = 256
"""Images in a batch of the evaluations during training."""


class EvalBatches(NamedTuple):
    """Batches for evaluation under a strategy; see `eval_batches`.

    Attributes:
        dataset: the batches.
        steps: number of batches in a pass; None if the data set ends after them.
        padded: number of images with padding, divided by that without.
    """

    dataset: Any
    steps: int | None = None
    padded: float = 1.0


@contextlib.contextmanager
def scope(
    strategy: tf.distribute.Strategy, config: BaseConfig, workdir: str | os.PathLike, accumulate: int = 1
) -> Iterator[None]:
    """Enter the scope of a strategy for a run, after checking that all workers have the same configuration.

    It seeds all generators with the configuration's seed. The chief locks the run's folder.

    Args:
        strategy: the strategy of the run.
        config: the configuration of the run.
        workdir: the run's folder.
        accumulate: micro-batches in a step.

    Raises:
        ValueError: Keras does not use TensorFlow, the client of a log is not installed, another process trains in the
            folder, workers have different configurations or versions, or the batch cannot be divided among replicas.
        errors.PeerLost: another worker ended or does not answer.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(f"KERAS_BACKEND must be 'tensorflow' to train a run; got {keras.backend.backend()!r}.")
    with collectives.together(strategy), strategy.scope():
        collectives.check_same(strategy, versions() | dataclasses.asdict(config), "config")
        per_replica(strategy, config.batch_size, accumulate)
        with contextlib.ExitStack() as stack:
            if collectives.is_chief(strategy):

                def prepare() -> None:
                    names.check_log(config.log)
                    stack.enter_context(files.in_use(workdir))

                collectives.chief_first(strategy, prepare)
            else:
                collectives.chief_first(strategy, lambda: None)
            keras.utils.set_random_seed(config.seed)
            yield


def reopened(run: RunT) -> RunT:
    """Return the run that the folder already holds, with its data set's statistics; `run` if it holds none.

    Raises:
        ValueError: the folder holds a run with a different configuration or data set.
    """
    if not (run.path / "config.json").exists():
        return run
    known = type(run).open(run.path)
    changed = [
        f"{field.name} {old!r} there, {new!r} here"
        for field in dataclasses.fields(run.config)
        if (old := getattr(known.config, field.name)) != (new := getattr(run.config, field.name))
        and field.metadata["affects_result"]
    ]
    if changed:
        raise InputError(f"workdir {str(run.path)!r} holds a run with a different configuration: {'; '.join(changed)}.")
    without_statistics = [dataclasses.replace(each.dataset_info, mean=None, std=None) for each in (known, run)]
    if without_statistics[0] != without_statistics[1]:
        raise InputError(
            f"workdir {str(run.path)!r} holds a run on different images: dataset {known.dataset_info.name!r} changed."
        )
    return dataclasses.replace(known, config=run.config)


def open_run(run: RunT, strategy: tf.distribute.Strategy) -> RunT:
    """Return the run that a folder already holds, or `run` for a new folder, on all workers; see `reopened`."""
    return collectives.chief_first(strategy, lambda: reopened(run))


def learning_rate(config: BaseConfig, warmup_error: float = 0.0) -> schedules.Rate:
    """Make the learning rate of a configuration; see `schedules.make`."""
    return schedules.make(
        config.schedule,
        config.learning_rate,
        steps=config.steps,
        decay_steps=config.decay_steps,
        warmup_steps=config.warmup_steps,
        warmup_rate=config.warmup_rate,
        warmup_error=warmup_error,
    )


def describe_rate(config: BaseConfig, warmup_error: float = 0.0, patience: int = 0) -> str:
    """Describe the learning rate of a configuration in words; see `schedules.describe`."""
    return schedules.describe(
        config.schedule,
        config.learning_rate,
        decay_steps=config.decay_steps,
        warmup_steps=config.warmup_steps,
        warmup_rate=config.warmup_rate,
        warmup_error=warmup_error,
        patience=patience,
    )


def compile_model(
    model: keras.Model,
    config: BaseConfig,
    *,
    rate: schedules.Rate | None = None,
    accumulate: int = 1,
    slow: Iterable[Any] = (),
    slow_multiplier: float = 1.0,
    average: Callable | None = None,
    **options: Any,
) -> None:
    """Compile a model with the optimizer, learning rate and precision of a configuration.

    Args:
        model: a model, built in the scope of its strategy.
        config: the configuration.
        rate: learning rate or schedule; by default that of the configuration.
        accumulate: micro-batches in a step.
        slow: variables that learn at `slow_multiplier` times the rate.
        slow_multiplier: see `slow`.
        average: returned by `averaging.in_optimizer`, to average the weights in the optimizer.
        **options: further arguments of `model.compile`: loss, metrics, `jit_compile`.
    """
    optimizer = optimizers.make(
        config.optimizer,
        learning_rate(config) if rate is None else rate,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        decay_norm=config.decay_norm,
        clip_norm=config.clip_norm,
        accumulate=accumulate,
        slow=slow,
        slow_multiplier=slow_multiplier,
        loss_scale=config.precision == "mixed_float16",
        average=average,
    )
    model.compile(optimizer, **options)


def eval_batches(strategy: tf.distribute.Strategy, batches: Callable[..., tf.data.Dataset], count: int) -> EvalBatches:
    """Share the batches of an evaluation among the replicas of a strategy.

    On one device the data set ends after a pass. On several replicas it is endless and padded with images of weight 0,
    because Keras expects a batch of static shape on each replica in each step.

    Args:
        strategy: the strategy of the run.
        batches: function of `batch_size`, `context` and `pad_batches`; see `data.pipeline.evaluate`.
        count: number of images in a pass.
    """
    replicas = strategy.num_replicas_in_sync
    batch_size = max(EVAL_BATCH_SIZE // replicas, 1) * replicas
    if replicas == 1:
        return EvalBatches(batches(batch_size=batch_size, context=None))
    steps = -(-count // batch_size)
    shared = distributed(
        strategy,
        lambda context: batches(batch_size=batch_size, context=context, pad_batches=True).repeat(),
        batch_size,
    )
    return EvalBatches(shared, steps, steps * batch_size / count)


def backbone_start(
    source: str | None, backbone: str, dataset: finetuning.DatasetT, strategy: tf.distribute.Strategy
) -> tuple[pathlib.Path | None, ModelInfo | None, finetuning.DatasetT]:
    """Find the weights that the backbone of a task starts from, and normalize the data set as they require.

    Args:
        source: the argument `backbone_weights`, as for `finetuning.find`; None to start from random weights.
        backbone: name of the network.
        dataset: as for `finetuning.normalized_as`.
        strategy: where to train; the chief downloads.

    Returns:
        The file and what it says about the weights, as `finetuning.find` returns them or None, and the data set.

    Raises:
        ValueError: as for `finetuning.find`.
    """
    if not source:
        return None, None, dataset
    path, info = collectives.chief_first(strategy, lambda: finetuning.find(source, backbone, "backbone_weights"))
    return path, info, finetuning.normalized_as(info, dataset) if info else dataset


def headline(
    model: keras.Model,
    run: Run,
    images: int = 0,
    *,
    network: str = "",
    accumulate: int = 1,
    warmup_error: float = 0.0,
    patience: int = 0,
) -> str:
    """Return the first lines of a run's log: the network, the length of the run, the optimizer and the hardware.

    Args:
        model: the compiled model.
        run: the run.
        images: number of training images, to count epochs; 0 if unknown.
        network: description of the network; by default its name and size.
        accumulate: micro-batches in a step.
        warmup_error: training error in percent that ends the warm-up; 0 for none.
        patience: evaluations without a lower error before the rate falls, for schedule "plateau".
    """
    config = run.config
    batch = counted(config.batch_size, "image") + (f" ({accumulate} micro-batches)" if accumulate > 1 else "")
    length = f"{counted(config.steps, 'step')} of {batch}"
    if images:
        epochs = config.steps * config.batch_size / images
        length += f": {epochs:.1f} epochs of {run.dataset_info.name} ({counted(images, 'image')})"
    rate = describe_rate(config, warmup_error, patience)
    if config.early_stopping:
        evaluations = counted(config.early_stopping, "evaluation")
        length += f"; early stopping after {evaluations} without a lower error"
    hardware = describe(model.distribute_strategy, config.batch_size // accumulate)
    return (
        f"{network or f'{model.name}: {model.count_params():,} parameters'}\n"
        f"{length}\n"
        f"{optimizers.title(config.optimizer)}, {rate}; {config.precision} on {hardware}"
    )


def count_numbers(variables: Iterable[Any]) -> int:
    """Return how many numbers some variables hold."""
    return sum(math.prod(variable.shape) for variable in variables)


def fit(
    model: keras.Model,
    run: Run,
    batches: Callable[..., tf.data.Dataset],
    *,
    tests: EvalBatches | tf.data.Dataset | None = None,
    monitor: str | None = "val_loss",
    shown: tuple[str, str] | None = None,
    lines: Mapping[str, str] | None = None,
    label: str = "loss",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    stateful: Mapping[str, keras.callbacks.Callback] | None = None,
    average: WeightAverage | None = None,
    accumulate: int = 1,
    info: ModelInfo | None = None,
    log: str = "",
) -> None:
    """Train a compiled model from the newest checkpoint in the run's folder, if there is one, to the last step.

    The folder gets `config.json`, `checkpoints/`, `best.weights.h5`, `metrics.jsonl`, `curves.png` and what
    `config.log` names. With `config.early_stopping` the run ends before its last step if the monitored number has not
    fallen for that many evaluations; the folder then has `early_stop.json`.

    Args:
        model: the model. It trains in the strategy in whose scope it was built.
        run: the run's folder; `config` says how long to train and how often to evaluate.
        batches: function of `start_step`, in micro-batches, and `context`: this worker's part of the training batches.
        tests: batches to evaluate on; None if a callback evaluates.
        monitor: name in the logs of the number whose lowest value selects the best weights; None to save the last
            weights and to plot nothing.
        shown: name in the logs, without "val_", and format of the number in the progress line, by default `monitor`.
        lines: name in the logs -> label of its line in the plot; by default `monitor` and its value in training.
        label: label of the plot's vertical axis.
        callbacks: called first at each evaluation, so that the logs and the other callbacks see what they add.
        stateful: callbacks with `variables` that checkpoints must contain, by name.
        average: average of the weights that is evaluated and saved instead of them.
        accumulate: micro-batches in a step.
        info: preprocessing, crop and classes to store in the weights file.
        log: first lines of the log; by default those of `headline`.

    Raises:
        ValueError: the folder cannot be written, or its checkpoint does not fit the model.
        FloatingPointError: the loss or a weight is not finite.
        errors.Stopped: SIGTERM or SIGINT was received; a checkpoint of the current step is saved.
        errors.PeerLost: another worker ended or does not answer.
    """
    strategy = model.distribute_strategy
    log = log or headline(model, run, accumulate=accumulate)
    first = batches()  # finds invalid arguments before anything is written

    def batches_from(start_step: int, context: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
        """Return the batches from a step on; those from the first step on one device exist already."""
        return batches(start_step=start_step, context=context) if start_step or context else first

    tests = tests if isinstance(tests, EvalBatches) else EvalBatches(tests)
    collectives.chief_first(strategy, run.create)
    error, text = shown if shown and monitor else ((monitor or "loss").removeprefix("val_"), "")
    rules: dict[str, Any] = {**(stateful or {}), **({"average": average} if average else {})}
    stopping = None
    if monitor and run.config.early_stopping:
        rules["early_stopping"] = stopping = EarlyStopping(run.config.early_stopping, monitor)
    logs = trackers.make(run.config.log, run) if collectives.is_chief(strategy) else []
    with _worker_folder(strategy, run) as written, trackers.closing(logs):
        saver = Checkpoints(model, written.checkpoints, run.config.checkpoint_steps, accumulate=accumulate, **rules)
        recorders: list[keras.callbacks.Callback] = [MetricsLog(written.metrics), *logs]
        if monitor:
            lines = lines or {monitor.removeprefix("val_"): "training", monitor: "test"}
            recorders.append(Curves(written.metrics, written.curves, lines, label, stopping))
            recorders.append(BestWeights(written.weights, saver.best, average, info, monitor))
        _fit(
            model,
            run,
            batches_from,
            tests,
            saver,
            [
                # First, so that no callback writes weights that are not finite.
                _CheckFinite(saver),
                LossWithoutPadding(tests.padded),
                *callbacks,
                *rules.values(),
                *recorders,
            ],
            average,
            Progress(run.config.steps, run.config.batch_size // accumulate, error, text, run.config.eval_split),
            log,
            stopping,
        )
        if not monitor:
            weights.save(model, written.weights, info)


class _CheckFinite(keras.callbacks.Callback):
    """Raise `FloatingPointError` at an evaluation if a variable is not finite."""

    def __init__(self, saver: Checkpoints):
        super().__init__()
        self.saver = saver

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.saver.check()


@contextlib.contextmanager
def _worker_folder(strategy: tf.distribute.Strategy, run: RunT) -> Iterator[RunT]:
    """Yield the run on the chief, and on other workers the same run in a temporary folder.

    Saving can be collective, so all workers do the same, and what the others write is discarded.
    """
    if collectives.is_chief(strategy):
        yield run
        return
    with tempfile.TemporaryDirectory(prefix="keras_resnet_worker") as path:
        yield dataclasses.replace(run, path=pathlib.Path(path))


def _fit(
    model: keras.Model,
    run: Run,
    batches: Callable[..., tf.data.Dataset],
    tests: EvalBatches,
    saver: Checkpoints,
    callbacks: Sequence[keras.callbacks.Callback],
    average: WeightAverage | None,
    progress: Progress,
    log: str,
    stopping: EarlyStopping | None,
) -> None:
    """Restore the newest checkpoint and train to the last step, in calls of `model.fit` between evaluations.

    Args:
        saver: saves and restores; called last, so that a checkpoint contains what the other callbacks did.
        callbacks: called at each evaluation, in this order.
        stopping: one of the callbacks, which may end the run before its last step.
    """
    config, strategy = run.config, model.distribute_strategy
    batch_size = config.batch_size // saver.accumulate
    start = saver.restore(run.checkpoints)
    shown, is_chief = [], collectives.is_chief(strategy)
    if is_chief:
        for leftover in run.path.glob(f"{weights.PARTIAL}*"):  # of a run that was killed while it wrote weights
            shutil.rmtree(leftover)
    has_ended = start >= config.steps or _is_over(stopping)
    if has_ended and not _missed_evaluation(saver, config):
        if is_chief:
            _note_early_stop(run, stopping, start)
            early = " by early stopping" if _is_over(stopping) else ""
            print(f"{run.path}: finished at step {start}{early}; nothing to do", flush=True)
        return
    if is_chief:
        print(log, flush=True)
        if start:
            print(f"resuming from step {start}", flush=True)
        shown = [progress]
    try:
        with StopOnSignal(saver, average) as stop:
            if _missed_evaluation(saver, config):
                _evaluate(model, tests, [*callbacks, stop])
            for first, last, evaluations in segments(start, config.steps, config.eval_steps):
                if _is_over(stopping):
                    break
                part = functools.partial(batches, start_step=first * saver.accumulate)
                model.fit(
                    distributed(strategy, part, batch_size),
                    steps_per_epoch=(last - first) // evaluations * saver.accumulate,
                    epochs=evaluations,
                    validation_data=tests.dataset,
                    validation_steps=tests.steps,
                    callbacks=[*callbacks, *shown, stop, saver],
                    shuffle=False,
                    verbose=0,
                )
    except OSError as error:
        raise InputError(
            f"workdir {str(run.path)!r} cannot be written to; its older checkpoints are kept: {error}."
        ) from error
    finally:
        saver.close()
    if is_chief:
        _note_early_stop(run, stopping, saver.step)
        print(f"wrote {run.path}", flush=True)


def _is_over(stopping: EarlyStopping | None) -> bool:
    return stopping is not None and stopping.is_over


def _note_early_stop(run: Run, stopping: EarlyStopping | None, step: int) -> None:
    """Write and print that a run has stopped early, if it has and its folder does not say so yet."""
    if stopping is None or not stopping.is_over or run.early_stop.exists():
        return
    values = {"step": step, "monitor": stopping.monitor, "lowest": float(stopping.lowest.numpy())}
    files.write(run.early_stop, json.dumps(values | {"evaluations": stopping.patience}) + "\n")
    print(f"stopped early at step {step} of {run.config.steps}: {stopping.reason()}", flush=True)


def segments(start: int, steps: int, eval_steps: int) -> Iterator[tuple[int, int, int]]:
    """Divide a run so that it is evaluated at each multiple of `eval_steps` and at its end.

    Args:
        start: the step to resume from.
        steps: the last step.
        eval_steps: steps between evaluations.

    Yields:
        (first step, last step, number of evaluations at equal distances, the last one at the last step).
    """
    first = min(-(-start // eval_steps) * eval_steps, steps)
    if first > start:
        yield start, first, 1
    last = steps // eval_steps * eval_steps
    if last > first:
        yield first, last, (last - first) // eval_steps
    if steps > max(last, first):
        yield max(last, first), steps, 1


def _missed_evaluation(saver: Checkpoints, config: BaseConfig) -> bool:
    """Return whether a signal stopped the run between the last step before an evaluation and the evaluation."""
    step = saver.step
    return bool(step) and (step % config.eval_steps == 0 or step == config.steps) and step != saver.evaluated


def _evaluate(model: keras.Model, tests: EvalBatches, callbacks: Sequence[keras.callbacks.Callback]) -> None:
    """Evaluate outside `model.fit`, and call the callbacks as it does."""
    logs = {}
    if tests.dataset is not None:
        result = model.evaluate(tests.dataset, steps=tests.steps, return_dict=True, verbose=0, callbacks=callbacks)
        logs = {f"val_{name}": value for name, value in result.items()}
    for callback in callbacks:
        callback.set_model(model)
        callback.on_epoch_end(0, logs)
