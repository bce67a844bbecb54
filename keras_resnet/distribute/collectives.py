"""Communication of the workers of a run: compare values, agree, chief-first execution and peer-failure detection.

A worker is a process of a `tf.distribute.MultiWorkerMirroredStrategy`; its replicas are the devices that it trains on.
All other strategies have one worker. `gather` and everything built on it is collective: every worker must call it, in
the same order.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from keras_resnet.errors import InputError, PeerLost

ResultT = TypeVar("ResultT")

LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)
"""Errors that TensorFlow raises if a collective operation breaks off; which one depends on the moment."""


def addresses(strategy: tf.distribute.Strategy) -> tuple[list[str], int]:
    """Return the addresses of all workers, the chief's first, and the index of this worker among them."""
    cluster: dict[str, list[str]] = {}
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        cluster = strategy.cluster_resolver.cluster_spec().as_dict()
    if not cluster:
        return ["localhost"], 0
    chiefs = cluster.get("chief", [])
    resolver = strategy.cluster_resolver
    return [*chiefs, *cluster.get("worker", [])], resolver.task_id + len(chiefs) * (resolver.task_type == "worker")


def count(strategy: tf.distribute.Strategy) -> int:
    """Return the number of workers."""
    return len(addresses(strategy)[0])


def index(strategy: tf.distribute.Strategy) -> int:
    """Return the index of this worker, from 0."""
    return addresses(strategy)[1]


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Return whether this worker writes the files of the run; a single worker does."""
    return index(strategy) == 0


def local_replicas(strategy: tf.distribute.Strategy) -> int:
    """Return the number of devices that this worker computes on."""
    return strategy.num_replicas_in_sync // count(strategy)


def gather(strategy: tf.distribute.Strategy, content: bytes) -> list[bytes]:
    """Return the bytes of all workers, by index; `content` are those of this worker."""
    if count(strategy) == 1:
        return [content]
    sizes = _gathered(strategy, np.array([[len(content)]], "int32"))[:, 0]
    # Collectives do not support bytes: send four of them as an i32.
    padded = content.ljust(4 * -(-max(sizes.max(), 1) // 4), b"\0")
    rows = _gathered(strategy, np.frombuffer(padded, "int32")[None])
    return [row.tobytes()[:size] for row, size in zip(rows, sizes, strict=True)]


def _gathered(strategy: tf.distribute.Strategy, row: np.ndarray) -> np.ndarray:
    """Gather a row of each worker, i32[1,N] -> i32[W,N]."""
    values = strategy.experimental_distribute_values_from_function(lambda _: tf.constant(row))
    return _collector(strategy)(values).numpy()[:: local_replicas(strategy)]


@functools.cache
def _collector(strategy: tf.distribute.Strategy) -> Callable:
    """Return a compiled `strategy.gather`, which is otherwise traced again at each call."""
    return tf.function(lambda values: strategy.gather(values, axis=0), reduce_retracing=True)


class Agreement:
    """The maximum of a small number over all workers, by an all-reduce.

    Args:
        strategy: strategy of the run; a single worker does not communicate.
        maximum: largest possible number; the smallest is 0.
    """

    def __init__(self, strategy: tf.distribute.Strategy, maximum: int):
        self.strategy = strategy
        self.alone = count(strategy) == 1

        @tf.function
        def counts(number: tf.Tensor) -> tf.Tensor:
            # tf.distribute has no maximum: sum one-hot vectors instead.
            one_hot = strategy.run(lambda: tf.one_hot(number, maximum + 1))
            return strategy.reduce(tf.distribute.ReduceOp.SUM, one_hot, axis=None)

        self.counts = counts

    def largest(self, number: int) -> int:
        """Return the largest number of all workers; `number` is that of this worker."""
        if self.alone:
            return number
        return int(np.flatnonzero(self.counts(tf.constant(number)).numpy())[-1])


def chief_first(strategy: tf.distribute.Strategy, function: Callable[[], ResultT]) -> ResultT:
    """Call a function on the chief, then on the other workers; return its result.

    Raises:
        ValueError: the function raised an `InputError` on the chief; it is raised on every worker.
    """
    if not is_chief(strategy):
        message = gather(strategy, b"")[0].decode()
        if message:
            raise InputError(message)
        return function()
    try:
        result = function()
    except InputError as error:
        gather(strategy, str(error).encode())
        raise
    gather(strategy, b"")
    return result


def check_same(strategy: tf.distribute.Strategy, values: Mapping[str, Any], subject: str) -> None:
    """Compare JSON values with those of the other workers.

    Args:
        strategy: strategy of the run.
        values: name -> value.
        subject: name of all values together, for the error message.

    Raises:
        ValueError: values differ; it is raised on every worker.
    """
    of_workers = [json.loads(content) for content in gather(strategy, json.dumps(values).encode())]
    differing = []
    for name in of_workers[0]:
        candidates = [worker_values.get(name) for worker_values in of_workers]
        if any(value != candidates[0] for value in candidates):
            texts = (f"{value!r} on worker {number}" for number, value in enumerate(candidates))
            differing.append(f"{name} is {', '.join(texts)}")
    if differing:
        raise InputError(f"{subject} must be the same on all workers; {'; '.join(differing)}.")


@contextlib.contextmanager
def together(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Replace the error of a collective operation that breaks off by `PeerLost`.

    Raises:
        errors.PeerLost: another worker ended or does not answer.
    """
    try:
        yield
    except LOST as error:
        if count(strategy) == 1:
            raise
        hosts, this = addresses(strategy)
        named = {int(number) for number in re.findall(r"/task:(\d+)", error.message)} - {this}
        others = sorted(named) or [number for number in range(len(hosts)) if number != this]
        aborted = re.search(r"aborted by: (.*)", error.message)
        reason = aborted.group(1) if aborted else error.message.split("\n")[0]
        raise PeerLost(this, [f"{number} ({hosts[number]})" for number in others], reason) from error
