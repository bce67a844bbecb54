"""What the workers of one run do together: compare, agree, let the chief go first, and notice that one is lost.

A worker is a process of a `tf.distribute.MultiWorkerMirroredStrategy`; its replicas are the devices that it trains on.
Every other strategy has one worker. All functions that speak to others must be called by every worker, in one order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from keras_resnet.errors import InputError, PeerLost

LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)
"""What TensorFlow raises where a collective breaks off; which of them depends on the moment."""


def addresses(strategy: tf.distribute.Strategy) -> tuple[list[str], int]:
    """The addresses of all workers, the chief's first, and the place of this one among them."""
    cluster = {}
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        cluster = strategy.cluster_resolver.cluster_spec().as_dict()
    if not cluster:
        return ["localhost"], 0
    chiefs = cluster.get("chief", [])
    resolver = strategy.cluster_resolver
    return [*chiefs, *cluster.get("worker", [])], resolver.task_id + len(chiefs) * (resolver.task_type == "worker")


def count(strategy: tf.distribute.Strategy) -> int:
    """How many workers there are."""
    return len(addresses(strategy)[0])


def index(strategy: tf.distribute.Strategy) -> int:
    """The number of this worker, from 0."""
    return addresses(strategy)[1]


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this worker writes what is written once; the only worker does."""
    return index(strategy) == 0


def local_replicas(strategy: tf.distribute.Strategy) -> int:
    """Devices that this worker computes on."""
    return strategy.num_replicas_in_sync // count(strategy)


def gather(strategy: tf.distribute.Strategy, content: bytes) -> list[bytes]:
    """What each worker says, in their order; `content` is what this one says."""
    if count(strategy) == 1:
        return [content]
    sizes = _gathered(strategy, np.array([[len(content)]], "int32"))[:, 0]
    # Collectives know no bytes: four of them make an i32.
    padded = content.ljust(4 * -(-max(sizes.max(), 1) // 4), b"\0")
    rows = _gathered(strategy, np.frombuffer(padded, "int32")[None])
    return [row.tobytes()[:size] for row, size in zip(rows, sizes, strict=True)]


def _gathered(strategy: tf.distribute.Strategy, row: np.ndarray) -> np.ndarray:
    """One row of each worker, [1,N] -> [workers,N]."""
    values = strategy.experimental_distribute_values_from_function(lambda _: tf.constant(row))
    return _collector(strategy)(values).numpy()[:: local_replicas(strategy)]


@functools.cache
def _collector(strategy: tf.distribute.Strategy) -> Callable:
    """A compiled `strategy.gather`; by itself it is traced anew at each call."""
    return tf.function(lambda values: strategy.gather(values, axis=0), reduce_retracing=True)


class Agreement:
    """The largest number that a worker names, known to all of them after a small all-reduce.

    Args:
        strategy: of the run; without several workers nothing is sent.
        most: the largest number, from 0.
    """

    def __init__(self, strategy: tf.distribute.Strategy, most: int):
        self.strategy = strategy
        self.alone = count(strategy) == 1

        @tf.function
        def total(number):
            # A sum of marks, as there is no maximum among the reductions of tf.distribute.
            marks = strategy.run(lambda: tf.one_hot(number, most + 1))
            return strategy.reduce(tf.distribute.ReduceOp.SUM, marks, axis=None)

        self.total = total

    def largest(self, number: int) -> int:
        """Name a number and return the largest one."""
        if self.alone:
            return number
        return int(np.flatnonzero(self.total(tf.constant(number)).numpy())[-1])


def chief_first(strategy: tf.distribute.Strategy, function: Callable):
    """Call a function on the chief, and when it is done on the others; return its result.

    Raises:
        ValueError: on every worker, where the chief found its input wrong.
    """
    if not is_chief(strategy):
        said = gather(strategy, b"")[0].decode()
        if said:
            raise InputError(said)
        return function()
    try:
        result = function()
    except InputError as error:
        gather(strategy, str(error).encode())
        raise
    gather(strategy, b"")
    return result


def check_same(strategy: tf.distribute.Strategy, values: Mapping[str, object], what: str) -> None:
    """Compare values, in JSON's types, with those of the other workers.

    Raises:
        ValueError: on every worker, where they are not the same; the names that differ are in the message.
    """
    said = [json.loads(content) for content in gather(strategy, json.dumps(values).encode())]
    differing = []
    for name in said[0]:
        named = [one.get(name) for one in said]
        if any(value != named[0] for value in named):
            texts = (f"{value!r} on worker {number}" for number, value in enumerate(named))
            differing.append(f"{name} is {', '.join(texts)}")
    if differing:
        raise InputError(f"{what} must be the same on all workers; {'; '.join(differing)}.")


@contextlib.contextmanager
def own_folder(strategy: tf.distribute.Strategy, run) -> Iterator:
    """The run on the chief; on others the same run in a folder of its own that is removed afterwards.

    Saving may be collective, so that all workers do the same, and what the others write is thrown away.

    Args:
        strategy: of the run.
        run: a `ClassifierRun`, or another dataclass with a `path`.
    """
    if is_chief(strategy):
        yield run
        return
    with tempfile.TemporaryDirectory(prefix="keras_resnet_worker") as path:
        yield dataclasses.replace(run, path=pathlib.Path(path))


@contextlib.contextmanager
def together(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turn the error of a collective that breaks off into one sentence.

    Raises:
        errors.PeerLost: another worker ended or is silent.
    """
    try:
        yield
    except LOST as error:
        if count(strategy) == 1:
            raise
        known, own = addresses(strategy)
        named = {int(number) for number in re.findall(r"/task:(\d+)", error.message)} - {own}
        others = sorted(named) or [number for number in range(len(known)) if number != own]
        reason = re.search(r"aborted by: (.*)", error.message) or re.search(r"(.*)", error.message)
        raise PeerLost(own, [f"{number} ({known[number]})" for number in others], reason.group(1)) from error
