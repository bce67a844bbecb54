"""Batches for training and evaluation: (image f32[B,H,W,3], label i32[B]).

A training batch is a pure function of the seed and the step: a pipeline that starts at step k yields what an
uninterrupted one yields from step k on, whatever was shuffled and augmented. The stream of examples is endless; epoch e
is a permutation of the split that follows from (seed, e), and batches run on over its end.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os

import numpy as np
import tensorflow as tf

from keras_resnet.data.dataset import Dataset, Files, Images, Stream
from keras_resnet.data.transforms import EvalTransform, TrainTransform
from keras_resnet.errors import InputError
from keras_resnet.ops import codecs, graph_errors

log = logging.getLogger(__name__)

SHUFFLE_BUFFER = 16_384
"""Records that are held for shuffling where a data set can only be read in its order."""


class BrokenFiles:
    """Counts the files that could not be decoded, names each once in the log, and stops the run at too many.

    Attributes:
        names: the files so far.
        allowed: how many there may be.
    """

    def __init__(self, count: int, max_share: float):
        self.names: set[str] = set()
        self.allowed = int(count * max_share)

    def report(self, names: np.ndarray) -> str:
        """Note the files in `names`, string[N]; answer with a sentence where there are now more than allowed, or ""."""
        for name in (value.decode(errors="replace") for value in names):
            if name not in self.names:
                self.names.add(name)
                log.warning("skipped %s, which cannot be decoded (%d so far)", name, len(self.names))
        if len(self.names) <= self.allowed:
            return ""
        first = ", ".join(sorted(self.names)[:3])
        return f"{len(self.names)} files cannot be decoded, more than max_broken allows ({self.allowed}): {first}."


def train(
    dataset: Dataset,
    batch_size: int,
    view: TrainTransform,
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
        dataset: where the images come from.
        batch_size: images in a batch, over all workers.
        view: what to show of them.
        split: which examples.
        seed: of shuffling and augmentation.
        start_step: the first batch is that of this step.
        shuffle: whether each epoch has its own order.
        cache: "" for none, "memory", or a file to keep encoded images in; decoded sets are in memory anyway.
        threads: size of a private thread pool; 0 for TensorFlow's shared one.
        deterministic: whether the order is kept where images take different times to decode.
        max_broken: share of files that may fail to decode; they are left out, counted and named in the log. In their
            place in a batch stands another image of it.
        max_pixels: larger images count as broken.
        broken: counter to use, for callers that want to see the count.
        context: input context of `tf.distribute`: each worker gets its part of every batch.

    Returns:
        `tf.data.Dataset` of (f32[B,H,W,3] normalised, i32[B]), or of f32[B,K] labels where the view mixes them; B is
        the worker's part of `batch_size`.

    Raises:
        ValueError: no such split, or a batch size that does not fit the split or the workers.
    """
    count = dataset.count(split)
    if not 1 <= batch_size <= count:
        raise InputError(f"batch_size must be from 1 to the {count} images of {split!r}; got {batch_size}.")
    workers, worker = (context.num_input_pipelines, context.input_pipeline_id) if context else (1, 0)
    if batch_size % workers:
        raise InputError(f"batch_size must be a multiple of the {workers} workers; got {batch_size}.")
    part = batch_size // workers
    examples = dataset.examples(split)
    if cache not in ("", "memory") and workers > 1:
        cache = f"{cache}.worker{worker}"  # workers may share a disk

    def places(step):
        """Positions in the endless stream of this worker's part of a step's batch, i64[part]."""
        return step * batch_size + worker * part + tf.range(part, dtype=tf.int64)

    def batch_seed(step):
        return tf.random.fold_in(stateless_seed(seed, step), worker)

    if isinstance(examples, Images):
        images, labels = (tf.constant(array) for array in (examples.images, examples.labels))

        def load(step):
            index = _index(places(step), count, seed, shuffle)
            pixels = tf.ensure_shape(tf.gather(images, index), [part, *images.shape[1:]])
            seeds = tf.random.split(batch_seed(step), 3)
            pixels = view.augment(view.crop_images(pixels, seeds[0]), seeds[1])
            return view.mix(pixels, tf.gather(labels, index), seeds[2])

        batches = tf.data.Dataset.range(start_step, tf.int64.max).map(
            load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic
        )
    else:
        broken = broken or BrokenFiles(count, max_broken)

        def image_seeds(place):
            """Two seeds for each image of this worker's part, i32[part,2,2], the same as one worker has for it."""
            seeds = tf.random.split(stateless_seed(seed, place[0] // batch_size), 2 * batch_size)
            return tf.reshape(seeds, [batch_size, 2, 2])[worker * part : (worker + 1) * part]

        reads = isinstance(examples, Files) and not cache

        def decode(place, contents, seeds):
            contents = tf.io.read_file(contents) if reads else contents
            # Image by image, which stays in the cache and uses all threads.
            return view.augment(view.decode(contents, seeds[0], max_pixels)[None], seeds[1])[0]

        def finish(pixels, valid, place, label, name):
            def replace():
                noted = graph_errors.check_call(broken.report, name[~valid])
                some = graph_errors.check(
                    tf.reduce_any(valid), "no image of a batch can be decoded, such as ", name[0], "."
                )
                # The next valid image of the batch, round its end.
                order = (tf.range(part)[:, None] + tf.range(part)[None]) % part
                chosen = tf.gather(order, tf.argmax(tf.gather(valid, order), axis=1), axis=1, batch_dims=1)
                with tf.control_dependencies([noted, some]):
                    return tf.gather(pixels, chosen), tf.gather(label, chosen)

            pixels, label = tf.cond(tf.reduce_all(valid), lambda: (pixels, label), replace)
            pixels = tf.ensure_shape(pixels, [part, *view.size, 3])
            return view.mix(pixels, tf.ensure_shape(label, [part]), batch_seed(place[0] // batch_size))

        records = _records(examples, places, part, start_step, seed, shuffle, cache)
        batches = _decoded(records, decode, dataset, (*view.size, 3), threads, image_seeds)
        batches = batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic)
    return _with_options(batches, threads).prefetch(tf.data.AUTOTUNE)


def evaluate(
    dataset: Dataset,
    batch_size: int,
    view: EvalTransform,
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
        dataset: where the images come from.
        batch_size: images in a batch, over all workers.
        view: what to show of them.
        split: which examples.
        pad_batches: fill the last batch to its full size with images of weight 0, for static shapes. With a `context`
            of several workers this is always done, so that all make the same number of steps.
        with_index: also yield the index of each image in the split.
        threads: size of a private thread pool; 0 for TensorFlow's shared one.
        max_pixels: larger images are an error.
        broken: leave files out that cannot be decoded and count them here; by default the first one is an error.
        context: input context of `tf.distribute`: each worker gets its part of every batch.

    Returns:
        `tf.data.Dataset` of (f32[B,H,W,3], or f32[B,V,H,W,3] of a view that shows V pictures of each image, and
        i32[B]), followed by weights f32[B] where batches are padded and by indices
        i64[B] where these are asked for. A file that cannot be decoded raises an error that names it.

    Raises:
        ValueError: no such split, or a batch size that does not fit the workers or images of different sizes.
    """
    workers, worker = (context.num_input_pipelines, context.input_pipeline_id) if context else (1, 0)
    if batch_size < 1 or batch_size % workers:
        raise InputError(f"batch_size must be a positive multiple of the {workers} workers; got {batch_size}.")
    part = batch_size // workers
    pad_batches = pad_batches or workers > 1
    count, examples = dataset.count(split), dataset.examples(split)
    if part > 1 and None in view.shape and not isinstance(examples, Images):
        raise InputError(f"batch_size must be 1 for whole images of different sizes; got {part}.")
    steps = -(-count // batch_size)

    def places(step):
        return step * batch_size + worker * part + tf.range(part, dtype=tf.int64)

    def output(pixels, label, index):
        result = (view.batch(pixels), label)
        result += (tf.cast(index < count, tf.float32),) if pad_batches else ()
        return result + ((index,) if with_index else ())

    if isinstance(examples, Images):
        images, labels = (tf.constant(array) for array in (examples.images, examples.labels))

        def load(step):
            index = places(step)
            index = index if pad_batches else index[index < count]
            taken = tf.minimum(index, count - 1)
            pixels = tf.ensure_shape(tf.gather(images, taken), [part if pad_batches else None, *images.shape[1:]])
            return output(pixels, tf.gather(labels, taken), index)

        batches = tf.data.Dataset.range(steps).map(load, num_parallel_calls=tf.data.AUTOTUNE)
    else:

        def decode(_, contents, seeds):
            contents = tf.io.read_file(contents) if isinstance(examples, Files) else contents
            return view.decode(contents, max_pixels)

        def refuse(names):
            return _refusal(names, view)

        def finish(pixels, valid, place, label, name):
            def note():
                with tf.control_dependencies(
                    [graph_errors.check_call(broken.report if broken else refuse, name[~valid])]
                ):
                    return pixels[valid], label[valid], place[valid]

            return output(*tf.cond(tf.reduce_all(valid), lambda: (pixels, label, place), note))

        records = _records(examples, places, part, 0, 0, False, "", end=steps, pad=pad_batches)
        batches = _decoded(records, decode, dataset, view.shape, threads)
        batches = batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE)
        # TensorFlow does not count through `interleave`, and Keras warns where a data set ends unannounced.
        batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
    return _with_options(batches, threads).prefetch(tf.data.AUTOTUNE)


def _refusal(names: np.ndarray, view: EvalTransform) -> str:
    """Why the first of these files is of no use: it is no image, or smaller than a view that does not resize."""
    name, (height, width) = names[0].decode(errors="replace"), view.size
    with contextlib.suppress(InputError):
        size = codecs.read(name).shape
        if not view.resize and (size[0] < height or size[1] < width):
            return f"{name} has {size[0]}x{size[1]} pixels, and the view wants {height}x{width} without resizing."
    return f"{name} cannot be decoded as a {codecs.FORMATS} image."


def stateless_seed(seed: int, number: tf.Tensor) -> tf.Tensor:
    """A seed i32[2] that is a pure function of the run's seed and a step or position."""
    low = tf.cast(tf.bitwise.bitwise_and(number, 2**31 - 1), tf.int32)
    high = tf.cast(tf.bitwise.right_shift(number, tf.constant(31, tf.int64)), tf.int32)
    return tf.random.fold_in(tf.stack([tf.constant(seed & 0x7FFFFFFF, tf.int32), high]), low)


def _index(place: tf.Tensor, count: int, seed: int, shuffle: bool) -> tf.Tensor:
    """Index in the split of positions in the endless stream: i64[B] -> i64[B], a permutation for each epoch."""
    offset = place % count
    if not shuffle:
        return offset
    # A batch reaches into two epochs at most. Keys must be well mixed: with small numbers the order is hardly random.
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
    examples: Files | Stream,
    places,
    part: int,
    start: int,
    seed: int,
    shuffle: bool,
    cache: str,
    end: int | None = None,
    pad: bool = True,
) -> tf.data.Dataset:
    """This worker's encoded examples in batches.

    Args:
        examples: of a split.
        places: function from a step to the positions in the endless stream of its batch, i64[part].
        part: examples in a batch.
        start: first step.
        seed: of the order.
        shuffle: whether each epoch has its own order.
        cache: "", "memory" or a file.
        end: the step to stop before; None for an endless stream.
        pad: whether the last batch runs on into the next epoch, or is cut where the epoch ends.

    Returns:
        `tf.data.Dataset` of (place i64[B], contents string[B], label[B], name string[B]); of `Files` that are not
        cached, contents are the paths, which are also the names.
    """
    count = examples.count
    if isinstance(examples, Files) and not cache:
        paths, labels = tf.constant(examples.paths), tf.constant(examples.labels)

        def batch(step):
            place = places(step)
            place = place if pad else place[place < count]
            index = _index(place, count, seed, shuffle)
            path = tf.gather(paths, index)
            return place, path, tf.gather(labels, index), path

        return tf.data.Dataset.range(start, tf.int64.max if end is None else end).map(batch)

    if isinstance(examples, Files):
        pairs = tf.data.Dataset.from_tensor_slices((examples.paths, examples.labels))
        records = pairs.map(lambda path, label: (tf.io.read_file(path), label, path), tf.data.AUTOTUNE)
    else:
        numbered = examples.records.enumerate()
        records = numbered.map(
            lambda number, record: (*record, tf.strings.join([examples.name, tf.strings.as_string(number)], "#"))
        )
    if cache:
        records = records.cache("" if cache == "memory" else _cache_file(cache, examples))

    own, batch_size = int(places(0)[0]), int(places(1)[0] - places(0)[0])
    first_epoch, skipped = divmod(start * batch_size, count)

    def epoch(number):
        one = records
        if shuffle:
            # The order must not depend on `tf.random.set_seed`, of which this function's graph has taken a copy; with a
            # copy of 0 TensorFlow fails to compare seeds.
            tf.compat.v1.get_default_graph().seed = None
            order = tf.cast(tf.random.fold_in(stateless_seed(seed, number), 1)[0], tf.int64)
            one = one.shuffle(SHUFFLE_BUFFER, seed=order, reshuffle_each_iteration=False)
        one = one.enumerate(number * count)
        return one.skip(tf.where(number == first_epoch, tf.constant(skipped, tf.int64), 0))

    stream = tf.data.Dataset.range(first_epoch, tf.int64.max)
    stream = stream.flat_map(epoch).map(lambda place, record: (place, *record))
    if end is not None:
        stream = stream.take(end * batch_size if pad else count)
    if part < batch_size:
        stream = stream.filter(lambda place, *_: (place % batch_size >= own) & (place % batch_size < own + part))
    return stream.batch(part, drop_remainder=pad)


def _cache_file(cache: str, examples: Files | Stream) -> str:
    """The file that caches these very examples: the name that was given, and a digest of theirs.

    Raises:
        ValueError: it was begun and not finished.
    """
    names = list(examples.paths) if isinstance(examples, Files) else [examples.name, str(examples.count)]
    file = f"{cache}.{hashlib.sha256(chr(0).join(names).encode()).hexdigest()[:16]}"
    lock = f"{file}_0.lockfile"
    if os.path.exists(lock) and not os.path.exists(f"{file}.index"):
        raise InputError(
            f"cache {cache!r} is being written by another run, or was when one was killed; then remove {lock!r}."
        )
    return file


def _decoded(
    records: tf.data.Dataset, decode, dataset: Dataset, shape, threads: int, image_seeds=None
) -> tf.data.Dataset:
    """Decode batches of records, several batches at a time, each on one thread.

    Args:
        records: batches of (place i64[B], contents string[B], label[B], name string[B]).
        decode: (place i64[], contents string[], seeds) -> f32 of `shape`, such as [H,W,3].
        dataset: for the range of its labels.
        shape: what `decode` returns; with None, where it depends on the image, batches must be of one image.
        threads: batches decoded at a time; 0 for one a processor.
        image_seeds: place i64[B] -> the seeds of its images, with B in front; none by default.

    Returns:
        `tf.data.Dataset` of (pixels f32[B,*shape], valid bool[B], place i64[B], label i32[B], name string[B]); pixels
        are zero where an image could not be decoded.
    """
    classes = len(dataset.info.class_names)
    smallest = [side or 0 for side in shape]

    def decode_batch(place, contents, label, name):
        length = tf.size(place)
        label = tf.cast(label, tf.int32)
        wrong = tf.boolean_mask(label, (label < 0) | (label >= classes))
        check = graph_errors.check(tf.size(wrong) == 0, f"labels must be from 0 to {classes - 1}; got ", wrong[:1], ".")
        # An error inside a graph can only be caught by a data set that drops its element; what is missing is then seen.
        seeds = image_seeds(place) if image_seeds else tf.zeros([length])
        decoded = tf.data.Dataset.from_tensor_slices((tf.range(length), place, contents, seeds))
        decoded = decoded.map(lambda number, *one: (number, decode(*one)))
        decoded = decoded.ignore_errors(log_warning=False).batch(tf.cast(length, tf.int64))
        nothing = tf.data.Dataset.from_tensors((tf.zeros([0], tf.int32), tf.zeros([0, *smallest])))

        def complete(number, pixels):
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
