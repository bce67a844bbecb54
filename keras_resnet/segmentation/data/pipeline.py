"""Batches of images and labels, for training and for evaluation.

A training batch is (images f32[B,h,w,3] normalized, labels i32[B,h,w]), a pure function of the run's seed and the step.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from keras_resnet.data.finder import image_size
from keras_resnet.data.pipeline import BrokenFiles, Share, epoch_index, stateless_seed
from keras_resnet.data.transforms import WholeImageTransform
from keras_resnet.errors import InputError
from keras_resnet.ops import codecs, graph_errors
from keras_resnet.segmentation.data.examples import Example
from keras_resnet.segmentation.data.transforms import TrainTransform


def train(
    examples: Sequence[Example],
    batch_size: int,
    transform: TrainTransform,
    *,
    seed: int = 0,
    start_step: int = 0,
    max_broken: float = 0.001,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Return endless training batches; each epoch is a permutation of the examples.

    Args:
        examples: the training images.
        batch_size: images in a batch, over all workers.
        transform: scales, crops and normalization.
        seed: seed of the order and of the transform.
        start_step: step of the first batch.
        max_broken: fraction of images that may fail to decode. They are counted and logged, and the next image that can
            be decoded takes the place of each.
        context: input context of `tf.distribute`: each worker gets its part of every batch.

    Returns:
        `tf.data.Dataset` of (f32[B,h,w,3], i32[B,h,w]).

    Raises:
        ValueError: the batch size is larger than the number of examples, or is no multiple of the workers.
        tf.errors.InvalidArgumentError: from a batch, if too many images cannot be decoded, or a mask cannot be read or
            has another size than its image; the error names the file.
    """
    count = len(examples)
    if not 1 <= batch_size <= count:
        raise InputError(f"batch_size must be from 1 to the {count} training images; got {batch_size}.")
    share = Share.of(batch_size, context)
    broken = BrokenFiles(count, max_broken)

    def index(place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return epoch_index(place[None], count, seed, True)[0], place

    def example(pixels: tf.Tensor, label: tf.Tensor, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        crop, label = transform(pixels, label, stateless_seed(seed, place))
        return crop, tf.cast(label, tf.int32)

    places = tf.data.Dataset.range(start_step, tf.int64.max).map(share.places).unbatch()
    stream = _read(places.map(index), examples, transform, broken)
    stream = stream.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return _unsharded(stream.batch(share.size, drop_remainder=True)).prefetch(2)


def evaluate(
    examples: Sequence[Example], transform: WholeImageTransform, batch_size: int = 1
) -> Iterator[tuple[np.ndarray, tf.Tensor, tf.Tensor]]:
    """Yield each image once at its own size, in batches of images of one size.

    Args:
        examples: the images of a split.
        transform: the normalization.
        batch_size: images in a batch; fewer where a size has no more.

    Yields:
        (indices i64[B] into `examples`, images f32[B,H,W,3] normalized, labels u8[B,H,W]).

    Raises:
        ValueError: an image cannot be decoded, or a mask cannot be read or has another size than its image.
    """
    groups = collections.defaultdict(list)
    for number, example in enumerate(examples):
        groups[image_size(example.path, transform.exif)].append(number)
    # Labels are yielded as they are read: one data set for all sizes, cut into batches where the size changes.
    order = [number for group in groups.values() for number in group]
    ends = np.cumsum([len(group) for group in groups.values()])
    stream = _read(
        tf.data.Dataset.from_tensor_slices((np.array(order, "int64"), np.array(order, "int64"))), examples, transform
    )
    batch: list[tuple[tf.Tensor, tf.Tensor, tf.Tensor]] = []
    try:
        for done, element in enumerate(stream.prefetch(2), 1):
            batch.append(element)
            if len(batch) == batch_size or done in ends:
                pixels, labels, indices = (tf.stack(column) for column in zip(*batch, strict=True))
                yield indices.numpy(), transform.normalize(pixels), labels
                batch = []
    except tf.errors.InvalidArgumentError as error:
        message = graph_errors.message_of(error)
        if message is None:
            raise
        raise InputError(message) from error


def _read(
    stream: tf.data.Dataset,
    examples: Sequence[Example],
    transform: WholeImageTransform,
    broken: BrokenFiles | None = None,
) -> tf.data.Dataset:
    """Read images and labels in order: (index i64[], place i64[]) -> (u8[H,W,3], u8[H,W], place i64[]).

    Args:
        stream: indices of the examples, each with another number.
        examples: the examples.
        transform: the transform, which says how to decode.
        broken: counter of images that cannot be decoded, each of which the next one replaces; by default such an image
            raises an error that names it.
    """
    paths = tf.constant([example.path for example in examples])
    masks = tf.constant([example.mask for example in examples])
    count = len(examples)

    def read_label(index: np.ndarray) -> np.ndarray:
        return examples[int(index)].read_label()

    def read(index: tf.Tensor, place: tf.Tensor) -> tf.data.Dataset:
        # tf.data can only catch an error inside a graph by dropping the element, so the next image is tried, and an
        # empty one is the last resort.
        most = tf.constant(count if broken else 1, tf.int64)
        tries = tf.data.Dataset.range(most)
        images = tries.map(
            lambda skipped: (transform.decode(tf.io.read_file(paths[(index + skipped) % count])), skipped)
        )
        empty = tf.data.Dataset.from_tensors((tf.zeros([0, 0, 3], tf.uint8), most))
        first = images.ignore_errors(log_warning=False).concatenate(empty).take(1)
        return first.map(lambda pixels, skipped: check(pixels, index, skipped, place))

    def check(
        pixels: tf.Tensor, index: tf.Tensor, skipped: tf.Tensor, place: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        def report() -> tf.Tensor:
            assert broken is not None
            names = tf.gather(paths, (index + tf.range(skipped)) % count)
            with tf.control_dependencies([graph_errors.check_call(broken.report, names)]):
                return tf.constant(True)

        reported = tf.cond(skipped > 0, report, lambda: tf.constant(True)) if broken else tf.constant(True)
        chosen = (index + skipped) % count
        path, mask = paths[chosen], masks[chosen]
        with tf.control_dependencies([reported]):
            readable = graph_errors.check(
                tf.size(pixels) > 0, "image ", path, f" is missing, damaged, too large or no {codecs.FORMATS} image."
            )
        with tf.control_dependencies([readable]):
            label = tf.ensure_shape(tf.numpy_function(read_label, [chosen], tf.uint8), [None, None])
        sizes = [
            tf.strings.as_string(side) for side in (*tf.unstack(tf.shape(label)), *tf.unstack(tf.shape(pixels)[:2]))
        ]
        fits = graph_errors.check(
            tf.reduce_all(tf.shape(label) == tf.shape(pixels)[:2]),
            *("mask ", mask, " has ", sizes[0], "x", sizes[1], " pixels (height x width), but its image ", path),
            *(" has ", sizes[2], "x", sizes[3], "."),
        )
        with tf.control_dependencies([fits]):
            return tf.identity(pixels), tf.identity(label), place

    threads = os.cpu_count() or 1
    return stream.interleave(read, cycle_length=threads, num_parallel_calls=threads, deterministic=True)


def _unsharded(batches: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.with_options(options)
