"""Batches for training and evaluation: (image f32[B,H,W,3], label i32[B]).

A training batch is a pure function of the seed and the step: a pipeline that starts at step k yields what an
uninterrupted one yields from step k on, regardless of shuffling and augmentation. The stream of examples is endless;
epoch e is a permutation of the split that follows from (seed, e), and batches may span two epochs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from keras_resnet.data import streams
from keras_resnet.data.dataset import Dataset, Files, Images, Records, Stream, StreamReader
from keras_resnet.data.transforms import TrainTransform, Transform
from keras_resnet.errors import InputError, counted
from keras_resnet.ops import codecs, graph_errors

log = logging.getLogger(__name__)

SHUFFLE_BUFFER = 16_384
"""Records in the shuffle buffer of a data set that is cached."""


READ_AT_ONCE = 64
"""Records that are read by one call when all are read in their order."""


class BrokenFiles:
    """Counts the files that cannot be decoded, logs each once, and stops the run when there are too many.

    Attributes:
        names: the broken files so far.
        allowed: how many broken files are allowed.
        log_each: whether each is logged.
    """

    def __init__(self, count: int, max_share: float, log_each: bool = True):
        self.names: set[str] = set()
        self.log_each = log_each
        self.allowed = int(count * max_share)

    def report(self, names: np.ndarray) -> str:
        """Record the files in `names`, string[N]; return an error message if there are now too many, else ""."""
        for name in (value.decode(errors="replace") for value in names):
            if name not in self.names:
                self.names.add(name)
                if self.log_each:
                    log.warning("skipped %s, which cannot be decoded (%d so far)", name, len(self.names))
        if len(self.names) <= self.allowed:
            return ""
        count, first = counted(len(self.names), "file"), ", ".join(sorted(self.names)[:3])
        return f"{count} cannot be decoded, more than max_broken allows ({self.allowed}): {first}."


@dataclasses.dataclass(frozen=True)
class Share:
    """A worker's share of every batch.

    Attributes:
        batch_size: images in a batch, over all workers.
        workers: number of workers.
        worker: index of this worker.
    """

    batch_size: int
    workers: int = 1
    worker: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"batch_size must be at least 1; got {self.batch_size}.")
        if self.batch_size % self.workers:
            raise InputError(f"batch_size must be a multiple of the {self.workers} workers; got {self.batch_size}.")

    @classmethod
    def of(cls, batch_size: int, context: tf.distribute.InputContext | None) -> Share:
        """Return the share of the worker that an input context describes, or everything without one."""
        if context is None:
            return cls(batch_size)
        return cls(batch_size, context.num_input_pipelines, context.input_pipeline_id)

    @property
    def size(self) -> int:
        """Images in this worker's share of a batch."""
        return self.batch_size // self.workers

    @property
    def start(self) -> int:
        """Index of the share's first image in the batch."""
        return self.worker * self.size

    def places(self, step: tf.Tensor | int) -> tf.Tensor:
        """Return the positions in the endless stream of the share of a step's batch, i64[size]."""
        return step * self.batch_size + self.start + tf.range(self.size, dtype=tf.int64)


def train(
    dataset: Dataset,
    batch_size: int,
    transform: TrainTransform,
    *,
    split: str = "train",
    seed: int = 0,
    start_step: int = 0,
    shuffle: bool = True,
    cache: str = "",
    threads: int = 0,
    deterministic: bool = True,
    max_broken: float = 0.001,
    max_pixels: int = codecs.MAX_PIXELS,
    broken: BrokenFiles | None = None,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Return endless training batches.

    Args:
        dataset: the images and labels.
        batch_size: images in a batch, over all workers.
        transform: crops, augmentations and normalization.
        split: split of the data set, or a part of one.
        seed: seed of shuffling and augmentation.
        start_step: step of the first batch.
        shuffle: whether each epoch has its own order.
        cache: "" for none, "memory", or a file for encoded images; decoded data sets are in memory anyway.
        threads: size of a private thread pool; 0 for TensorFlow's shared one.
        deterministic: whether to keep the order where images take different times to decode.
        max_broken: fraction of files that may fail to decode. They are counted and logged, and another image of the
            batch takes the place of each.
        max_pixels: larger images count as broken.
        broken: counter to use, for callers that need the count.
        context: input context of `tf.distribute`: each worker gets its share of every batch.

    Returns:
        `tf.data.Dataset` of (f32[B,H,W,3] normalized, i32[B]), or of f32[B,K] labels if the transform mixes them; B is
        the worker's share of `batch_size`.

    Raises:
        ValueError: no such split, or a batch size that does not fit the split or the workers.
    """
    count = dataset.count(split)
    if not 1 <= batch_size <= count:
        raise InputError(f"batch_size must be from 1 to the {count} images of {split!r}; got {batch_size}.")
    share = Share.of(batch_size, context)
    examples = dataset.examples(split)
    if isinstance(examples, Images):
        batches = _train_from_memory(examples, transform, share, seed, start_step, shuffle, deterministic)
    else:
        if cache not in ("", "memory") and share.workers > 1:
            cache = f"{cache}.worker{share.worker}"  # workers may share a disk
        batches = _train_from_files(
            _records(examples, share, start=start_step, seed=seed, shuffle=shuffle, cache=cache),
            transform,
            share,
            seed,
            paths=isinstance(examples, Files) and not cache,
            classes=len(dataset.info.class_names),
            threads=threads,
            deterministic=deterministic,
            max_pixels=max_pixels,
            broken=broken or BrokenFiles(count, max_broken),
        )
    return _with_options(batches, threads).prefetch(tf.data.AUTOTUNE)


def _train_from_memory(
    examples: Images,
    transform: TrainTransform,
    share: Share,
    seed: int,
    start_step: int,
    shuffle: bool,
    deterministic: bool,
) -> tf.data.Dataset:
    """Return the training batches of decoded images; arguments as for `train`."""
    images, labels = tf.constant(examples.images), tf.constant(examples.labels)

    def load(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        index = epoch_index(share.places(step), examples.count, seed, shuffle)
        pixels = tf.ensure_shape(tf.gather(images, index), [share.size, *images.shape[1:]])
        seeds = tf.random.split(_batch_seed(seed, step, share), 3)
        pixels = transform.augment(transform.crop_images(pixels, seeds[0]), seeds[1])
        return transform.mix(pixels, tf.gather(labels, index), seeds[2])

    steps = tf.data.Dataset.range(start_step, tf.int64.max)
    return steps.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic)


def _train_from_files(
    records: tf.data.Dataset,
    transform: TrainTransform,
    share: Share,
    seed: int,
    *,
    paths: bool,
    classes: int,
    threads: int,
    deterministic: bool,
    max_pixels: int,
    broken: BrokenFiles,
) -> tf.data.Dataset:
    """Return the training batches of encoded images.

    Args:
        records: result of `_records`.
        paths: whether its contents are paths of files still to be read.
        classes: number of classes.
        transform, share, seed, threads, deterministic, max_pixels, broken: as for `train`.
    """

    def image_seeds(place: tf.Tensor) -> tf.Tensor:
        """Return two seeds for each image of the share, i32[B,2,2], the same as a single worker has for it."""
        seeds = tf.random.split(stateless_seed(seed, place[0] // share.batch_size), 2 * share.batch_size)
        return tf.reshape(seeds, [share.batch_size, 2, 2])[share.start : share.start + share.size]

    def decode(contents: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        contents = tf.io.read_file(contents) if paths else contents
        # Image by image, which stays in the processor's cache and uses all threads.
        return transform.augment(transform.decode(contents, seeds[0], max_pixels)[None], seeds[1])[0]

    def finish(
        pixels: tf.Tensor, valid: tf.Tensor, place: tf.Tensor, label: tf.Tensor, name: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, label = tf.cond(
            tf.reduce_all(valid),
            lambda: (pixels, label),
            lambda: _replace_broken(pixels, valid, label, name, share.size, broken),
        )
        pixels = tf.ensure_shape(pixels, [share.size, *transform.size, 3])
        label = tf.ensure_shape(label, [share.size])
        return transform.mix(pixels, label, _batch_seed(seed, place[0] // share.batch_size, share))

    batches = _decoded(records, decode, classes, (*transform.size, 3), threads, image_seeds)
    return batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic)


def _replace_broken(
    pixels: tf.Tensor, valid: tf.Tensor, label: tf.Tensor, name: tf.Tensor, count: int, broken: BrokenFiles
) -> tuple[tf.Tensor, tf.Tensor]:
    """Replace each of `count` images that is not valid, and its label, by the next valid one, cyclically."""
    reported = graph_errors.check_call(broken.report, name[~valid])
    some = graph_errors.check(
        tf.reduce_any(valid), "no image of a batch can be decoded; one of its files is ", name[0], "."
    )
    order = (tf.range(count)[:, None] + tf.range(count)[None]) % count
    chosen = tf.gather(order, tf.argmax(tf.gather(valid, order), axis=1), axis=1, batch_dims=1)
    with tf.control_dependencies([reported, some]):
        return tf.gather(pixels, chosen), tf.gather(label, chosen)


def evaluate(
    dataset: Dataset,
    batch_size: int,
    transform: Transform,
    *,
    split: str = "test",
    pad_batches: bool = False,
    with_index: bool = False,
    threads: int = 0,
    max_pixels: int = codecs.MAX_PIXELS,
    broken: BrokenFiles | None = None,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Return each image of a split exactly once, in order.

    Args:
        dataset: the images and labels.
        batch_size: images in a batch, over all workers.
        transform: crops and normalization.
        split: split of the data set, or a part of one.
        pad_batches: fill the last batch to its full size with images of weight 0, for static shapes. With a `context`
            of several workers this is always done, so that all make the same number of steps.
        with_index: also yield the index of each image in the split.
        threads: size of a private thread pool; 0 for TensorFlow's shared one.
        max_pixels: larger images are an error.
        broken: counter of files that cannot be decoded, which are then left out; by default they are an error.
        context: input context of `tf.distribute`: each worker gets its share of every batch.

    Returns:
        `tf.data.Dataset` of (f32[B,H,W,3], or f32[B,V,H,W,3] of a transform to V > 1 views, and i32[B]), followed by
        weights f32[B] if batches are padded and by indices i64[B] if `with_index`. A file that cannot be decoded raises
        an error that names it.

    Raises:
        ValueError: no such split, or a batch size that does not fit the workers or images of different sizes.
    """
    share = Share.of(batch_size, context)
    pad_batches = pad_batches or share.workers > 1
    count, examples = dataset.count(split), dataset.examples(split)
    if share.size > 1 and None in transform.shape and not isinstance(examples, Images):
        raise InputError(f"batch_size must be 1 for whole images of different sizes; got {share.size}.")
    steps = -(-count // batch_size)

    def output(pixels: tf.Tensor, label: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        result = (transform.batch(pixels), label)
        result += (tf.cast(index < count, tf.float32),) if pad_batches else ()
        return result + ((index,) if with_index else ())

    if isinstance(examples, Images):
        batches = _evaluate_from_memory(examples, share, steps, pad_batches, output)
    else:
        batches = _evaluate_from_files(
            _records(examples, share, end=steps, pad=pad_batches),
            transform,
            output,
            paths=isinstance(examples, Files),
            classes=len(dataset.info.class_names),
            threads=threads,
            max_pixels=max_pixels,
            broken=broken,
        )
        # TensorFlow does not count through `interleave`, and Keras warns where a data set ends unannounced.
        batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
    return _with_options(batches, threads).prefetch(tf.data.AUTOTUNE)


def check_images(
    dataset: Dataset, transform: Transform, split: str, *, threads: int = 0, max_pixels: int = codecs.MAX_PIXELS
) -> None:
    """Decode all images of a split that are files, so that a damaged one is found before hours of training.

    Args:
        dataset: the images.
        transform: crops.
        split: split of the data set, or a part of one.
        threads: size of a private thread pool; 0 for TensorFlow's shared one.
        max_pixels: larger images are an error.

    Raises:
        ValueError: images cannot be decoded; the message counts them and names the first.
    """
    if not isinstance(dataset.examples(split), Files):
        return
    count = dataset.count(split)
    broken = BrokenFiles(count, 1.0, log_each=False)
    batch_size = 1 if None in transform.shape else 64
    images = evaluate(
        dataset, batch_size, transform, split=split, threads=threads, max_pixels=max_pixels, broken=broken
    )
    for _ in images:
        pass
    if broken.names:
        reason = _refusal(np.array([min(broken.names).encode()]), transform).rstrip(".")
        raise InputError(f"{reason}; {len(broken.names):,} of the {count:,} images of split {split!r} cannot be used.")


Output = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]
"""Function of pixels, labels i32[B] and indices i64[B] that returns an element of an evaluation pipeline."""


def _evaluate_from_memory(
    examples: Images, share: Share, steps: int, pad_batches: bool, output: Output
) -> tf.data.Dataset:
    """Return the evaluation batches of decoded images."""
    images, labels = tf.constant(examples.images), tf.constant(examples.labels)
    count = examples.count

    def load(step: tf.Tensor) -> tuple[tf.Tensor, ...]:
        index = share.places(step)
        index = index if pad_batches else index[index < count]
        taken = tf.minimum(index, count - 1)
        pixels = tf.ensure_shape(tf.gather(images, taken), [share.size if pad_batches else None, *images.shape[1:]])
        return output(pixels, tf.gather(labels, taken), index)

    return tf.data.Dataset.range(steps).map(load, num_parallel_calls=tf.data.AUTOTUNE)


def _evaluate_from_files(
    records: tf.data.Dataset,
    transform: Transform,
    output: Output,
    *,
    paths: bool,
    classes: int,
    threads: int,
    max_pixels: int,
    broken: BrokenFiles | None,
) -> tf.data.Dataset:
    """Return the evaluation batches of encoded images; arguments as for `_train_from_files` and `evaluate`."""

    def decode(contents: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        return transform.decode(tf.io.read_file(contents) if paths else contents, max_pixels)

    def report(names: np.ndarray) -> str:
        return broken.report(names) if broken else _refusal(names, transform)

    def finish(
        pixels: tf.Tensor, valid: tf.Tensor, place: tf.Tensor, label: tf.Tensor, name: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        def without_broken() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            with tf.control_dependencies([graph_errors.check_call(report, name[~valid])]):
                return pixels[valid], label[valid], place[valid]

        return output(*tf.cond(tf.reduce_all(valid), lambda: (pixels, label, place), without_broken))

    batches = _decoded(records, decode, classes, transform.shape, threads)
    return batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE)


def _refusal(names: np.ndarray, transform: Transform) -> str:
    """Return why the first of these files cannot be used: it is no image, or too small for a crop without resizing."""
    name, (height, width) = names[0].decode(errors="replace"), transform.size
    with contextlib.suppress(InputError):
        size = codecs.read(name).shape
        if not transform.resize and (size[0] < height or size[1] < width):
            return f"{name} has {size[0]}x{size[1]} pixels, fewer than the crop of {height}x{width}; set resize."
    return f"{name} cannot be decoded as a {codecs.FORMATS} image{codecs.what_it_is(name)}."


def stateless_seed(seed: int, number: tf.Tensor) -> tf.Tensor:
    """Return a seed i32[2] that is a pure function of the run's seed and a step or position."""
    low = tf.cast(tf.bitwise.bitwise_and(number, 2**31 - 1), tf.int32)
    high = tf.cast(tf.bitwise.right_shift(number, tf.constant(31, tf.int64)), tf.int32)
    return tf.random.fold_in(tf.stack([tf.constant(seed & 0x7FFFFFFF, tf.int32), high]), low)


def _batch_seed(seed: int, step: tf.Tensor, share: Share) -> tf.Tensor:
    """Return the seed i32[2] of a worker's share of a step's batch."""
    return tf.random.fold_in(stateless_seed(seed, step), share.worker)


def epoch_index(place: tf.Tensor, count: int, seed: int, shuffle: bool) -> tf.Tensor:
    """Return the index in the split of positions in the endless stream: i64[B] -> i64[B], a permutation per epoch."""
    offset = place % count
    if not shuffle:
        return offset
    # A batch spans two epochs at most. Keys must be well mixed: with small numbers the order is hardly random.
    epoch = place // count
    keys = [
        tf.random.stateless_uniform(
            [3], stateless_seed(seed, epoch[0] + later), minval=None, maxval=None, dtype=tf.int32
        )
        for later in (0, 1)
    ]
    key = tf.gather(tf.stack(keys), epoch - epoch[0])
    # The op behind tf.random.experimental.index_shuffle, which takes one key for all.
    return tf.raw_ops.RandomIndexShuffle(index=offset, seed=key, max_index=tf.constant(count - 1, tf.int64), rounds=8)


def _records(
    examples: Files | Records | Stream,
    share: Share,
    *,
    start: int = 0,
    end: int | None = None,
    seed: int = 0,
    shuffle: bool = False,
    cache: str = "",
    pad: bool = True,
) -> tf.data.Dataset:
    """Return a worker's encoded examples in batches.

    Args:
        examples: the examples of a split.
        share: the worker's share of each batch.
        start: first step.
        end: the step to stop before; None for an endless stream.
        seed: seed of the order.
        shuffle: whether each epoch has its own order.
        cache: "", "memory" or a file.
        pad: whether the last batch continues in the next epoch, or is cut where the epoch ends.

    Returns:
        `tf.data.Dataset` of (place i64[B], contents string[B], label[B], name string[B]). The contents of `Files` that
        are not cached are the paths, which are also the names.
    """
    if isinstance(examples, (Files, Records)) and not cache:
        return _numbered_records(examples, share, start, end, seed, shuffle, pad)
    if isinstance(examples, Stream) and not cache:
        return _streamed_records(examples, share, start, end, seed, shuffle, pad)

    count, batch_size = examples.count, share.batch_size
    records = _contents(examples)
    if cache:
        records = records.cache("" if cache == "memory" else _cache_file(cache, examples))
    first_epoch, skipped = divmod(start * batch_size, count)

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        ordered = records
        if shuffle:
            # The order must not depend on `tf.random.set_seed`, of which this function's graph has taken a copy; with a
            # copy of 0 TensorFlow fails to compare seeds.
            tf.compat.v1.get_default_graph().seed = None
            order = tf.cast(tf.random.fold_in(stateless_seed(seed, number), 1)[0], tf.int64)
            ordered = ordered.shuffle(SHUFFLE_BUFFER, seed=order, reshuffle_each_iteration=False)
        numbered = ordered.enumerate(number * count)
        return numbered.skip(tf.where(number == first_epoch, tf.constant(skipped, tf.int64), 0))

    def in_share(place: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return (place % batch_size >= share.start) & (place % batch_size < share.start + share.size)

    stream = tf.data.Dataset.range(first_epoch, tf.int64.max)
    stream = stream.flat_map(epoch).map(lambda place, record: (place, *record))
    if end is not None:
        stream = stream.take(end * batch_size if pad else count)
    if share.workers > 1:
        stream = stream.filter(in_share)
    return stream.batch(share.size, drop_remainder=pad)


def _numbered_records(
    examples: Files | Records, share: Share, start: int, end: int | None, seed: int, shuffle: bool, pad: bool
) -> tf.data.Dataset:
    """Return `_records` of examples that are found by their index, without reading those before them."""
    fetch = functools.partial(_paths, examples) if isinstance(examples, Files) else examples.fetch

    def batch(step: tf.Tensor) -> tuple[tf.Tensor, ...]:
        place = share.places(step)
        place = place if pad else place[place < examples.count]
        return place, *fetch(epoch_index(place, examples.count, seed, shuffle))

    steps = tf.data.Dataset.range(start, tf.int64.max if end is None else end)
    return steps.map(batch, num_parallel_calls=None if isinstance(examples, Files) else tf.data.AUTOTUNE)


def _streamed_records(
    examples: Stream, share: Share, start: int, end: int | None, seed: int, shuffle: bool, pad: bool
) -> tf.data.Dataset:
    """Return `_records` of examples that are read in their order."""
    if end is None:
        order = streams.training_order(examples, share.batch_size, seed, shuffle)
    else:
        order = streams.evaluation_order(examples, share.batch_size, share.workers)
    images, count = range(share.start, share.start + share.size), examples.count

    def batches() -> Iterator[tuple[np.ndarray, ...]]:
        for step, (numbers, contents, labels) in enumerate(streams.read(examples, order, images, start, end), start):
            place = step * share.batch_size + np.array(images)
            names = [f"{examples.name}#{number}" for number in numbers]
            used = (place < count) | pad
            if end is not None:
                place = np.where(place < count, numbers, place)  # the rest fills the last batch
            batch = (place, np.array(contents, object), labels, np.array(names, object))
            yield tuple(values[used] for values in batch)

    shape = [share.size if pad else None]
    types = (tf.int64, tf.string, tf.int64, tf.string)
    signature = tuple(tf.TensorSpec(shape, dtype) for dtype in types)
    return tf.data.Dataset.from_generator(batches, output_signature=signature)


def _paths(examples: Files, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the paths, labels and names of files, which are read later."""
    path = tf.gather(tf.constant(examples.paths), index)
    return path, tf.gather(tf.constant(examples.labels), index), path


def _contents(examples: Files | Records | Stream) -> tf.data.Dataset:
    """Return a split's examples in their order: (contents string[], label[], name string[])."""
    if isinstance(examples, Files):
        pairs = tf.data.Dataset.from_tensor_slices((examples.paths, examples.labels))
        return pairs.map(lambda path, label: (tf.io.read_file(path), label, path), tf.data.AUTOTUNE)
    if isinstance(examples, Records):
        numbers = tf.data.Dataset.range(examples.count).batch(READ_AT_ONCE)
        return numbers.map(examples.fetch, tf.data.AUTOTUNE).unbatch()

    def records() -> Iterator[tuple[bytes, int, str]]:
        reader = StreamReader(examples)
        for number in range(examples.count):
            yield *reader.read(number), f"{examples.name}#{number}"

    signature = tuple(tf.TensorSpec([], dtype) for dtype in (tf.string, tf.int64, tf.string))
    return tf.data.Dataset.from_generator(records, output_signature=signature)


def _cache_file(cache: str, examples: Files | Records | Stream) -> str:
    """Return the file that caches exactly these examples: the given name, and a digest of the examples' names.

    Raises:
        ValueError: the file is incomplete.
    """
    names = list(examples.paths) if isinstance(examples, Files) else [examples.name, str(examples.count)]
    file = f"{cache}.{hashlib.sha256(chr(0).join(names).encode()).hexdigest()[:16]}"
    lock = f"{file}_0.lockfile"
    if os.path.exists(lock) and not os.path.exists(f"{file}.index"):
        raise InputError(
            f"cache {cache!r} is being written by another run, or a killed run left it incomplete; in that case remove "
            f"{lock!r}."
        )
    return file


def _decoded(
    records: tf.data.Dataset,
    decode: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    classes: int,
    shape: Sequence[int | None],
    threads: int,
    image_seeds: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> tf.data.Dataset:
    """Decode batches of records, several batches at a time, each on one thread.

    Args:
        records: batches of (place i64[B], contents string[B], label[B], name string[B]).
        decode: (contents string[], the image's seeds) -> f32 of `shape`, such as [H,W,3].
        classes: number of classes; other labels are an error.
        shape: shape of what `decode` returns; with None, where it depends on the image, batches must be of one image.
        threads: batches decoded at a time; 0 for one per processor.
        image_seeds: place i64[B] -> the seeds of its images, with B in front; none by default.

    Returns:
        `tf.data.Dataset` of (pixels f32[B,*shape], valid bool[B], place i64[B], label i32[B], name string[B]); pixels
        are zero where an image cannot be decoded.
    """
    smallest = [side or 0 for side in shape]

    def decode_batch(place: tf.Tensor, contents: tf.Tensor, label: tf.Tensor, name: tf.Tensor) -> tf.data.Dataset:
        length = tf.size(place)
        label = tf.cast(label, tf.int32)
        wrong = tf.boolean_mask(label, (label < 0) | (label >= classes))
        check = graph_errors.check(tf.size(wrong) == 0, f"labels must be from 0 to {classes - 1}; got ", wrong[:1], ".")
        # An error inside a graph can only be caught by a data set that drops the element; it is then missing here.
        seeds = image_seeds(place) if image_seeds else tf.zeros([length])
        decoded = tf.data.Dataset.from_tensor_slices((tf.range(length), contents, seeds))
        decoded = decoded.map(lambda number, contents, seeds: (number, decode(contents, seeds)))
        decoded = decoded.ignore_errors(log_warning=False).batch(tf.cast(length, tf.int64))
        nothing = tf.data.Dataset.from_tensors((tf.zeros([0], tf.int32), tf.zeros([0, *smallest])))

        def complete(number: tf.Tensor, pixels: tf.Tensor) -> tuple[tf.Tensor, ...]:
            with tf.control_dependencies([check]):
                valid = tf.scatter_nd(number[:, None], tf.ones_like(number), [length]) > 0
            whole = tf.cond(
                tf.size(number) == length,
                lambda: pixels,
                lambda: tf.scatter_nd(number[:, None], pixels, tf.concat([[length], tf.shape(pixels)[1:]], 0)),
            )
            return tf.ensure_shape(whole, [place.shape[0], *shape]), valid, place, label, name

        return decoded.concatenate(nothing).take(1).map(complete)

    parallel = threads or os.cpu_count() or 1
    return records.interleave(decode_batch, cycle_length=parallel, num_parallel_calls=parallel, deterministic=True)


def _with_options(batches: tf.data.Dataset, threads: int) -> tf.data.Dataset:
    options = tf.data.Options()
    # The pipelines shard by the input context themselves.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    if threads:
        options.threading.private_threadpool_size = threads
    return batches.with_options(options)
