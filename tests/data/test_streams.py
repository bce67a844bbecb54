"""The order of streams: permutations shared by workers, from any step on, and the blocks that are read."""

import collections
import dataclasses

import numpy as np
import pytest

from keras_resnet import errors
from keras_resnet.classification import train
from keras_resnet.data import streams
from keras_resnet.data.dataset import Stream
from keras_resnet.data.pipeline import Share
from tests.data import soak_sources
from tests.runs import assert_equal, signal_at, variables_of

LENGTHS = [5, 30, 0, 17, 8, 40, 25, 25, 11, 19, 30, 22, 9, 31, 28, 16]
COUNT = sum(LENGTHS)


class Blocks:
    """Records that are their number; counts the records that are read."""

    def __init__(self, lengths):
        self.lengths, self.read, self.opened = lengths, collections.Counter(), collections.Counter()
        self.stream = Stream.of("blocks", lengths, self.open)

    def open(self, block, first):
        self.opened[block] += 1
        begin = sum(self.lengths[:block])
        for row in range(self.lengths[block]):
            self.read[block] += 1
            if row >= first:
                yield str(begin + row).encode(), (begin + row) % 7


@pytest.fixture
def small_lanes(monkeypatch):
    monkeypatch.setattr(streams, "IMAGES_PER_LANE", 2)
    monkeypatch.setattr(streams, "BLOCKS_PER_LANE", 2)
    monkeypatch.setattr(streams, "WINDOW", 48)


def batches(blocks, count, start=0, workers=1, worker=0, seed=1, shuffle=True, batch_size=12):
    order = streams.training_order(blocks.stream, batch_size, seed, shuffle)
    share = Share(batch_size, workers, worker)
    images = range(share.start, share.start + share.size)
    read = streams.read(blocks.stream, order, images, start, start + count)
    return np.concatenate([numbers for numbers, contents, labels in checked(read)]).reshape(count, -1)


def checked(read):
    """Batches, after a comparison of contents and labels with the numbers."""
    for numbers, contents, labels in read:
        assert [int(content) for content in contents] == numbers.tolist()
        np.testing.assert_array_equal(labels, numbers % 7)
        yield numbers, contents, labels


@pytest.mark.usefixtures("small_lanes")
@pytest.mark.parametrize("shuffle", [True, False])
def test_each_epoch_is_a_permutation(shuffle):
    numbers = batches(Blocks(LENGTHS), COUNT, shuffle=shuffle).ravel()
    epochs = numbers.reshape(12, COUNT)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(COUNT))
    assert len({tuple(epoch) for epoch in epochs}) == 12 if shuffle else True
    assert (batches(Blocks(LENGTHS), 3, seed=2, shuffle=shuffle) != numbers[:36].reshape(3, 12)).any() == shuffle


@pytest.mark.usefixtures("small_lanes")
def test_a_start_at_any_step_gives_the_same_batches():
    whole = batches(Blocks(LENGTHS), 90)
    for start in (1, 2, 7, 13, 25, 26, 27, 50, 81, 89):
        np.testing.assert_array_equal(batches(Blocks(LENGTHS), 90 - start, start), whole[start:])
    np.testing.assert_array_equal(batches(Blocks(LENGTHS), 10), whole[:10])


@pytest.mark.usefixtures("small_lanes")
@pytest.mark.parametrize("workers", [2, 3, 4, 6, 12])
def test_workers_share_the_batches_of_one(workers):
    shares = [batches(Blocks(LENGTHS), 60, workers=workers, worker=worker) for worker in range(workers)]
    np.testing.assert_array_equal(np.concatenate(shares, 1), batches(Blocks(LENGTHS), 60))


@pytest.mark.parametrize("batch_size", [1, 6, 200])
@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_an_evaluation_reads_each_record_once(batch_size, workers):
    size, steps = batch_size * workers, -(-COUNT // (batch_size * workers))
    found = collections.Counter()
    for worker in range(workers):
        blocks = Blocks(LENGTHS)
        order = streams.evaluation_order(blocks.stream, size, workers)
        images = range(worker * batch_size, (worker + 1) * batch_size)
        for step, (numbers, _, _) in enumerate(checked(streams.read(blocks.stream, order, images, 0, steps))):
            places = step * size + np.array(images)
            found.update(numbers[places < COUNT].tolist())
    assert found == dict.fromkeys(range(COUNT), 1)


def test_workers_open_only_their_blocks_and_read_them_once():
    """Eight workers over an epoch of 128 shards: an eighth of the records and at most one further shard each."""
    lengths = [40] * 128
    for worker in range(8):
        blocks = Blocks(lengths)
        batches(blocks, 40, workers=8, worker=worker, batch_size=128)
        assert 640 <= sum(blocks.read.values()) <= 640 + 2 * 40 + 2 * 512
        assert max(blocks.opened.values()) == 1


def test_a_start_opens_only_the_blocks_at_its_position():
    blocks = Blocks([40] * 128)
    batches(blocks, 1, start=23, batch_size=16)
    assert sum(blocks.read.values()) <= 40 + 2 * streams.WINDOW


def test_the_shuffle_is_uniform_over_the_split():
    """Chi-squared of one record's tenth of the split and tenth of the epoch for each of 400 seeds: 81 degrees."""
    observed = np.zeros((10, 10))
    for seed in range(400):
        order = streams.Order(np.array([40] * 10), 20, 2, seed, True, 32)
        record, place = seed * 7 % 400, np.empty(400, int)
        for lane in range(2):
            for first, numbers, shuffled in order.windows(lane, 0, 200):
                inside = first + np.arange(len(numbers))
                place[numbers[shuffled]] = inside // 10 * 20 + lane * 10 + inside % 10
        observed[record // 40, place[record] // 40] += 1
    statistic = ((observed - 4) ** 2 / 4).sum()
    assert 47 < statistic < 127  # 0.1 % and 99.9 % of the distribution


def test_blocks_shorter_than_counted():
    stream = Stream.of("some/train", [3, 3], lambda block, first: iter([(b"x", 0)] * (2 - first)))
    with pytest.raises(ValueError, match="some/train must have 6 records; record 2 is missing"):
        stream.pick(np.arange(6))
    assert stream.part(3, 5).count == 2
    assert stream.part(4, 5).pick(np.array([0])).count == 1


@pytest.mark.soak
@pytest.mark.usefixtures("one_block_resnet20", "without_curves")
def test_a_stopped_run_ends_as_an_uninterrupted_one(tmp_path):
    config = soak_sources.config_of("stream", tmp_path, count=200)
    config = dataclasses.replace(config, batch_size=16, steps=20, decay_steps=(9,), eval_steps=20)
    whole = train.train(config, tmp_path / "whole")
    with signal_at(17), pytest.raises(errors.Stopped):  # in the second epoch
        train.train(config, tmp_path / "parts")
    assert_equal(variables_of(train.train(config, tmp_path / "parts")), variables_of(whole))
