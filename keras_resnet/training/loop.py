"""What the training of classifiers and of detectors has in common: a folder that is gone on with, and one loop."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from keras_resnet.distribute import collectives
from keras_resnet.distribute.environment import versions
from keras_resnet.distribute.strategy import distributed, per_replica
from keras_resnet.errors import InputError
from keras_resnet.experiment.config import BaseConfig
from keras_resnet.experiment.run import Run
from keras_resnet.models import weights
from keras_resnet.training.callbacks import Progress
from keras_resnet.training.checkpoints import Checkpoints, StopOnSignal


def reopened(run: Run) -> Run:
    """The run that the folder holds already, with the statistics of its images; `run` itself where it holds none.

    Raises:
        ValueError: the folder holds a run with another configuration or on other images.
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
        raise InputError(f"workdir {str(run.path)!r} holds a run with another config: {'; '.join(changed)}.")
    if dataclasses.replace(known.dataset_info, mean=None, std=None) != dataclasses.replace(
        run.dataset_info, mean=None, std=None
    ):
        raise InputError(
            f"workdir {str(run.path)!r} holds a run on other images: dataset {known.dataset_info.name!r} changed."
        )
    return dataclasses.replace(known, config=run.config)


@contextlib.contextmanager
def scope(strategy: tf.distribute.Strategy, config: BaseConfig) -> Iterator[None]:
    """The scope of a strategy for a run, which all workers have begun with the same configuration and versions.

    Raises:
        ValueError: workers differ, or the batch does not suit the replicas.
        errors.PeerLost: another worker ended or is silent.
    """
    with collectives.together(strategy), strategy.scope():
        collectives.check_same(strategy, versions() | dataclasses.asdict(config), "config")
        per_replica(strategy, config.batch_size)
        if strategy.num_replicas_in_sync > 1 and getattr(config, "accumulate", 1) > 1:
            raise InputError(f"accumulate must be 1 on several replicas; got {config.accumulate}: use more replicas.")
        yield


def fit(
    model: keras.Model,
    run: Run,
    batches: Callable[..., tf.data.Dataset],
    saver: Checkpoints,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    headline: str,
    tests: tf.data.Dataset | None = None,
    test_steps: int | None = None,
    average=None,
    error: str = "top1_error",
) -> None:
    """Train a compiled model from its newest checkpoint to the run's last step, by calls of `model.fit`.

    Args:
        model: the model.
        run: its folder; `config` says how long to train and how often to evaluate.
        batches: (`start_step`, `context`) -> this worker's part of the training batches from this one on.
        saver: what saves and restores; called last, so that a checkpoint holds what the other callbacks did.
        callbacks: in this order at each evaluation.
        headline: what is printed first.
        tests: batches to evaluate on; None where a callback evaluates.
        test_steps: how many of them; None for all.
        average: the `WeightAverage` among the callbacks, if there is one.
        error: name of the error that progress shows, in percent.

    Raises:
        ValueError: the folder cannot be written, such as on a full disk.
        FloatingPointError: the loss or a weight is not finite.
        errors.Stopped: SIGTERM or SIGINT came; a checkpoint of the current step is saved.
    """
    config, parts, strategy = run.config, saver.accumulate, model.distribute_strategy
    # First, so that no callback writes weights that are not finite.
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: saver.check()), *callbacks]
    batch_size = config.batch_size // parts
    start = saver.restore(run.checkpoints)
    shown = []
    if collectives.is_chief(strategy):
        for left in run.path.glob(f"{weights.PARTIAL}*"):  # by a kill while weights were written
            shutil.rmtree(left)
        print(headline, flush=True)
        if start:
            print(f"going on from step {start}", flush=True)
        shown = [Progress(config.steps, batch_size, error)]
    try:
        with StopOnSignal(saver, average) as stop:
            if _missed_evaluation(saver, config):
                _evaluate(model, tests, test_steps, [*callbacks, stop])
            for first, last, evaluations in segments(start, config.steps, config.eval_steps):
                part = functools.partial(batches, start_step=first * parts)
                model.fit(
                    distributed(strategy, part, batch_size),
                    steps_per_epoch=(last - first) // evaluations * parts,
                    epochs=evaluations,
                    validation_data=tests,
                    validation_steps=test_steps,
                    callbacks=[*callbacks, *shown, stop, saver],
                    shuffle=False,
                    verbose=0,
                )
    except OSError as reason:
        raise InputError(
            f"workdir {str(run.path)!r} cannot be written, its checkpoints are as they were: {reason}."
        ) from reason


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


def _missed_evaluation(saver: Checkpoints, config) -> bool:
    """Whether a signal left a checkpoint between the last step before an evaluation and the evaluation."""
    step = saver.step
    return bool(step) and (step % config.eval_steps == 0 or step == config.steps) and step != saver.evaluated


def _evaluate(model: keras.Model, tests: tf.data.Dataset | None, steps: int | None, callbacks) -> None:
    """Evaluate outside of `fit`, and tell the callbacks as it does."""
    logs = {}
    if tests is not None:
        found = model.evaluate(tests, steps=steps, return_dict=True, verbose=0, callbacks=callbacks)
        logs = {f"val_{name}": value for name, value in found.items()}
    for callback in callbacks:
        callback.set_model(model)
        callback.on_epoch_end(0, logs)
