"""Batches of streams: a training batch is a function of seed and step, and each worker reads only its part.

Every epoch permutes the blocks of the stream (shards, or row groups), joins them, and starts at a random record. The
result is cut into as many lanes as the batch has parts; each lane is read in order and shuffled within windows. Where a
lane is at a step follows from the numbers of records alone, so blocks before it are not opened.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_resnet.data.dataset import Stream, StreamReader

WINDOW = 1024
"""Records that are shuffled together, in the windows of all lanes."""

IMAGES_PER_LANE = 16
"""Least number of a batch's images from each lane."""

BLOCKS_PER_LANE = 4
"""Least number of blocks for each lane, because the first block of a lane is read from its beginning."""

THREADS = 3
"""Lanes that are read at a time."""


@dataclasses.dataclass(frozen=True)
class Order:
    """The order of a stream's records.

    Attributes:
        length: number of records of each span of the stream, i64[M].
        batch_size: images in a batch, over all workers.
        lanes: parts of a batch, of equal size, that are read from different places.
        seed: seed of the order.
        shuffle: whether each epoch has its own order.
        window: records of a lane that are shuffled together.
    """

    length: np.ndarray
    batch_size: int
    lanes: int
    seed: int = 0
    shuffle: bool = False
    window: int = WINDOW

    @property
    def part(self) -> int:
        """Images of a batch from each lane."""
        return self.batch_size // self.lanes

    def windows(self, lane: int, start: int, stop: int | None = None) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield the windows of a lane from that which contains its image `start` to that before `stop`.

        A lane's images are counted over all epochs, `part` for each step.

        Yields:
            The number of the window's first image; numbers of its records in the order of reading, i64[W]; and the
            order in which they are used, a permutation of 0 to W - 1.
        """
        count, number = int(self.length.sum()), start
        while stop is None or number < stop:
            place = number // self.part * self.batch_size + lane * self.part + number % self.part
            epoch = place // count
            sizes = [self._before((epoch + 1) * count, i) - self._before(epoch * count, i) for i in range(lane + 1)]
            first = self._before(epoch * count, lane)
            window = (number - first) // self.window
            number = first + window * self.window
            size = min(self.window, first + sizes[lane] - number)
            if stop is not None and not self.shuffle:
                size = min(size, stop - number)
            positions = sum(sizes[:lane]) + number - first + np.arange(size)
            order = np.arange(size)
            if self.shuffle:
                order = np.random.RandomState([self.seed, epoch, lane, window]).permutation(size)
            yield number, self._numbers(epoch, positions), order
            number += size

    def _before(self, place: int, lane: int) -> int:
        """The number of a lane's images before a place in the endless sequence of batches."""
        step, rest = divmod(place, self.batch_size)
        return step * self.part + min(max(rest - lane * self.part, 0), self.part)

    def _numbers(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        """The numbers in the stream of the records at these positions of an epoch."""
        if not self.shuffle:
            return positions
        random = np.random.RandomState([self.seed, epoch])
        order = random.permutation(len(self.length))
        ends = np.cumsum(self.length[order])
        positions = (positions + random.randint(ends[-1], dtype="int64")) % ends[-1]
        rank = np.searchsorted(ends, positions, "right")
        begins = np.cumsum(self.length) - self.length
        return begins[order[rank]] + positions - (ends - self.length[order])[rank]


def training_order(stream: Stream, batch_size: int, seed: int, shuffle: bool) -> Order:
    """Return the order of training, which does not depend on the number of workers."""
    most = min(batch_size // IMAGES_PER_LANE, len(stream.length) // BLOCKS_PER_LANE)
    lanes = next((number for number in range(most, 1, -1) if batch_size % number == 0), 1)
    return Order(stream.length, batch_size, lanes, seed, shuffle, -(-WINDOW // lanes))


def evaluation_order(stream: Stream, batch_size: int, workers: int) -> Order:
    """Return the order of evaluation, in which each worker reads a consecutive part of the stream."""
    return Order(stream.length, batch_size, workers, window=-(-batch_size // workers))


def read(
    stream: Stream, order: Order, images: range, start: int, stop: int | None = None
) -> Iterator[tuple[np.ndarray, list[bytes], np.ndarray]]:
    """Yield a worker's part of the batches from step `start` on, up to `stop` if it is given.

    Args:
        stream: the images.
        order: their order.
        images: the worker's images in each batch.
        start: the first step.
        stop: the step to stop before.

    Yields:
        Numbers of the records i64[B], their contents, and labels i64[B].

    Raises:
        ValueError: a block cannot be read.
    """
    lanes = range(images.start // order.part, -(-images.stop // order.part))
    last = None if stop is None else stop * order.part
    pool = concurrent.futures.ThreadPoolExecutor(min(len(lanes), THREADS))
    try:
        readers = {lane: _Lane(stream, order.windows(lane, start * order.part, last), pool) for lane in lanes}
        for step in itertools.count(start) if stop is None else range(start, stop):
            rows = [readers[i // order.part].take(step * order.part + i % order.part) for i in images]
            numbers, contents, labels = zip(*rows, strict=True)
            yield np.array(numbers, "int64"), list(contents), np.array(labels, "int64")
    finally:
        pool.shutdown(cancel_futures=True)


class _Lane:
    """The records of a lane, of which one window is used while the next one is read."""

    def __init__(
        self,
        stream: Stream,
        windows: Iterator[tuple[int, np.ndarray, np.ndarray]],
        pool: concurrent.futures.ThreadPoolExecutor,
    ):
        self._reader, self._windows, self._pool = StreamReader(stream), windows, pool
        self._first = 0
        self._rows: list[Any] = []
        self._following = pool.submit(self._read)

    def take(self, number: int) -> tuple[int, bytes, int]:
        """Return the number, contents and label of the lane's image `number`, which increases from call to call."""
        while number >= self._first + len(self._rows):
            self._first, self._rows = self._following.result()
            self._following = self._pool.submit(self._read)
        row = self._rows[number - self._first]
        self._rows[number - self._first] = None  # frees the memory
        return row

    def _read(self) -> tuple[int, list]:
        """Read the next window; without one, nothing."""
        first, numbers, order = next(self._windows, (0, [], []))
        rows = [(int(number), *self._reader.read(int(number))) for number in numbers]
        return first, [rows[i] for i in order]
