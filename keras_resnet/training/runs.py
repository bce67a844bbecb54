"""What the training of classifiers and of detectors has in common: a folder that is gone on with, and one loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from keras_resnet.errors import InputError
from keras_resnet.training.callbacks import Progress
from keras_resnet.training.checkpoints import Checkpoints, StopOnSignal
from keras_resnet.workdir import Workdir


def reopened(run: Workdir) -> Workdir:
    """The run that the folder holds already, with the statistics of its images; `run` itself where it holds none.

    Raises:
        ValueError: the folder holds a run with another configuration or on other images.
    """
    if not (run.path / "config.json").exists():
        return run
    known = type(run).open(run.path)
    old, new = dataclasses.asdict(known.config), dataclasses.asdict(run.config)
    changed = [f"{name} {old[name]!r} there, {new[name]!r} here" for name in new if old[name] != new[name]]
    if changed:
        raise InputError(f"workdir {str(run.path)!r} holds a run with another config: {'; '.join(changed)}.")
    if dataclasses.replace(known.facts, mean=None, std=None) != dataclasses.replace(run.facts, mean=None, std=None):
        raise InputError(
            f"workdir {str(run.path)!r} holds a run on other images: dataset {known.facts.name!r} changed."
        )
    return known


def fit(
    model: keras.Model,
    run: Workdir,
    batches: Callable[..., tf.data.Dataset],
    saver: Checkpoints,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    headline: str,
    tests: tf.data.Dataset | None = None,
    average=None,
    error: str = "top1_error",
) -> None:
    """Train a compiled model from its newest checkpoint to the run's last step, by calls of `model.fit`.

    Args:
        model: the model.
        run: its folder; `config` says how long to train and how often to evaluate.
        batches: `start_step` -> training batches from this one on.
        saver: what saves and restores; called last, so that a checkpoint holds what the other callbacks did.
        callbacks: in this order at each evaluation.
        headline: what is printed first.
        tests: batches to evaluate on; None where a callback evaluates.
        average: the `WeightAverage` among the callbacks, if there is one.
        error: name of the error that progress shows, in percent.

    Raises:
        ValueError: the folder cannot be written, such as on a full disk.
        FloatingPointError: the loss or a weight is not finite.
        errors.Stopped: SIGTERM or SIGINT came; a checkpoint of the current step is saved.
    """
    config, parts = run.config, saver.accumulate
    start = saver.restore()
    print(headline, flush=True)
    if start:
        print(f"going on from step {start}", flush=True)
    progress = Progress(config.steps, config.batch_size // parts, error)
    try:
        with StopOnSignal(saver, average) as stop:
            if _missed_evaluation(saver, config):
                _evaluate(model, tests, [*callbacks, stop])
            for first, last, evaluations in segments(start, config.steps, config.eval_steps):
                model.fit(
                    batches(start_step=first * parts),
                    steps_per_epoch=(last - first) // evaluations * parts,
                    epochs=evaluations,
                    validation_data=tests,
                    callbacks=[*callbacks, progress, stop, saver],
                    shuffle=False,
                    verbose=0,
                )
    except OSError as error:
        raise InputError(
            f"workdir {str(run.path)!r} cannot be written, its checkpoints are as they were: {error}."
        ) from error


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


def _evaluate(model: keras.Model, tests: tf.data.Dataset | None, callbacks) -> None:
    """Evaluate outside of `fit`, and tell the callbacks as it does."""
    logs = {}
    if tests is not None:
        found = model.evaluate(tests, return_dict=True, verbose=0, callbacks=callbacks)
        logs = {f"val_{name}": value for name, value in found.items()}
    for callback in callbacks:
        callback.set_model(model)
        callback.on_epoch_end(0, logs)
