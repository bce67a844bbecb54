"""Batches of annotated images, for training and for evaluation.

A training batch is a dictionary of `images` f32[B,H,W,3], normalized and padded; `image_size` f32[B,2], the size inside
the padding; `boxes` f32[B,G,4], top, left, bottom, right in pixels; `labels` i32[B,G], from 1 with 0 for padding;
`crowd` i32[B,G], 1 for groups; `seed` i32[B,2]; and with masks `masks` u8[B,G,H,W/8], `masks.packed` to bits, without a
pixel for objects that have none. It is a pure function of the run's seed and the step.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from keras_resnet.data.pipeline import BrokenFiles, stateless_seed
from keras_resnet.detection.data.annotations import Annotation
from keras_resnet.detection.data.transforms import DetectionTransform
from keras_resnet.detection.masks import packed
from keras_resnet.errors import InputError, counted
from keras_resnet.ops import boxes as box_ops
from keras_resnet.ops import codecs, graph_errors, image


class Located(Protocol):
    """The part of an annotated image that reading it needs."""

    @property
    def path(self) -> str:
        """The image file."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width according to the annotation; None if it does not say."""


class Decoder(Protocol):
    """The part of a transform that reading images needs."""

    def decode(self, contents: tf.Tensor) -> tf.Tensor:
        """Decode an image file, string[] -> u8[H,W,3]."""


def train(
    annotations: Sequence[Annotation],
    batch_size: int,
    transform: DetectionTransform,
    *,
    seed: int = 0,
    start_step: int = 0,
    mirror: bool = True,
    vertical_flip: bool = False,
    max_gt_boxes: int = 100,
    max_broken: float = 0.001,
    masks: bool = False,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Return endless training batches; to save padding, a batch holds either portrait or landscape images.

    Args:
        annotations: the training images.
        batch_size: images in a batch, over all workers.
        transform: the transform of the images.
        seed: seed of order, mirroring and the detector's sampling.
        start_step: step of the first batch.
        mirror: mirror half of the images left to right.
        vertical_flip: flip half of the images upside down, for images without an up, such as a microscope's.
        max_gt_boxes: most ground-truth boxes of an image; of more, a random choice is kept.
        max_broken: fraction of files that may fail to decode. They are counted and logged, and the next image of the
            same orientation that can be decoded takes the place of each.
        masks: whether batches have the masks of the objects.
        context: input context of `tf.distribute`: each worker gets its part of every batch.

    Returns:
        `tf.data.Dataset` of dictionaries; see the top of this file.

    Raises:
        ValueError: the batch size is larger than both orientations, or is no multiple of the workers.
        tf.errors.InvalidArgumentError: from a batch, if too many images cannot be decoded, or one has another size than
            its annotation; the error names the file.
    """
    workers, worker = (context.num_input_pipelines, context.input_pipeline_id) if context else (1, 0)
    if batch_size % workers:
        raise InputError(f"batch_size must be a multiple of the {workers} workers; got {batch_size}.")
    worker_batch_size = batch_size // workers
    padded_sizes = transform.padded_sizes(annotations)
    groups = [
        [number for number, annotation in enumerate(annotations) if annotation.is_portrait == portrait]
        for portrait in sorted(padded_sizes)
    ]
    if batch_size < 1 or batch_size > max(map(len, groups)):
        largest = counted(max(map(len, groups)), "image")
        raise InputError(f"batch_size must be from 1 to the {largest} of one orientation; got {batch_size}.")
    broken = BrokenFiles(len(annotations), max_broken)
    most_boxes = max(len(annotation.labels) for annotation in annotations)
    most_boxes = max(min(max_gt_boxes, most_boxes), 1)
    chosen = _chosen(annotations, most_boxes, seed)
    ground_truth = [tf.constant(array) for array in _ground_truth(annotations, chosen, most_boxes)]
    padded_size = tf.constant([padded_sizes[annotation.is_portrait] for annotation in annotations])
    static_size = next(iter(padded_sizes.values())) if len(padded_sizes) == 1 else (None, None)

    def order() -> Iterator[tuple[int, int]]:
        """Index of each of this worker's images, and its position in the run."""
        for step, batch in batch_indices(groups, batch_size, seed, start_step):
            for place in range(worker * worker_batch_size, (worker + 1) * worker_batch_size):
                yield batch[place], step * batch_size + place

    def example(pixels: tf.Tensor, index: tf.Tensor, position: tf.Tensor) -> dict[str, tf.Tensor]:
        seeds = tf.random.split(stateless_seed(seed, position), 3)
        boxes, labels, crowd = (tf.gather(values, index) for values in ground_truth)
        pixels = transform.resize_and_normalize(pixels[None])[0]
        resized = tf.shape(pixels)[:2]
        size = tf.cast(resized, tf.float32)
        boxes = boxes * tf.concat([size, size], 0)
        draws = tf.random.stateless_uniform([2], seeds[0])
        if mirror:
            pixels, boxes = _flip(draws[0] < 0.5, pixels, boxes, size, vertical=False)
        if vertical_flip:
            pixels, boxes = _flip(draws[1] < 0.5, pixels, boxes, size, vertical=True)
        inputs = {
            "images": tf.ensure_shape(image.pad_to(pixels[None], padded_size[index])[0], [*static_size, 3]),
            "image_size": size,
            "boxes": tf.where(labels[:, None] > 0, boxes, 0.0),
            "labels": labels,
            "crowd": crowd,
            "seed": seeds[1],
        }
        if masks:
            flips = (draws < 0.5) & [mirror, vertical_flip]
            bits = tf.numpy_function(draw, (index, resized, padded_size[index], flips), tf.uint8, stateful=False)
            width = None if static_size[1] is None else -(-static_size[1] // 8)
            inputs["masks"] = tf.ensure_shape(bits, [most_boxes, static_size[0], width])
        return inputs

    def draw(index: np.ndarray, size: np.ndarray, padded: np.ndarray, flips: np.ndarray) -> np.ndarray:
        """The masks of an image at the size of its resized one, flipped as it is: u8[G,H,W/8]."""
        drawn = np.zeros((most_boxes, *padded), bool)
        objects = annotations[int(index)].masks or ()
        for number, place in enumerate(chosen[int(index)] if objects else ()):
            mask = objects[place]
            if mask is not None:
                pixels = mask.draw((int(size[0]), int(size[1])))[:: -1 if flips[1] else 1, :: -1 if flips[0] else 1]
                drawn[number, : size[0], : size[1]] = pixels
        return packed(drawn)

    signature = (tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.int64))
    stream = tf.data.Dataset.from_generator(order, output_signature=signature)
    stream = decoded(stream, annotations, transform, groups=groups, broken=broken)
    stream = stream.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return unsharded(stream.batch(worker_batch_size, drop_remainder=True)).prefetch(2)


def evaluate(
    annotations: Sequence[Annotation],
    transform: DetectionTransform,
    batch_size: int = 1,
    pyramid: Sequence[DetectionTransform] = (),
) -> Iterator[tuple[np.ndarray, tf.data.Dataset]]:
    """Yield each image once, by orientation: the indices of the images, and batches of images and image_size.

    Args:
        annotations: the images of a split.
        transform: the transform of the images.
        batch_size: images in a batch.
        pyramid: transforms to further scales, for multi-scale testing; a batch then holds their results in `pyramid`, a
            tuple of dictionaries.

    Yields:
        (i64[n] indices into `annotations`, `tf.data.Dataset` of dictionaries in this order).

    Raises:
        tf.errors.InvalidArgumentError: from a batch, if an image cannot be decoded or has another size than its
            annotation; the error names the file.
    """
    for portrait in transform.padded_sizes(annotations):
        index = np.array([n for n, annotation in enumerate(annotations) if annotation.is_portrait == portrait])
        yield index, _evaluation_batches([annotations[n] for n in index], (transform, *pyramid), batch_size)


def _evaluation_batches(
    annotations: Sequence[Annotation], transforms: Sequence[DetectionTransform], batch_size: int
) -> tf.data.Dataset:
    """Batches of images of one orientation, at the scale of each transform."""
    sizes = [next(iter(transform.padded_sizes(annotations).values())) for transform in transforms]

    def example(pixels: tf.Tensor, _: tf.Tensor) -> dict[str, tf.Tensor]:
        levels = []
        for transform, size in zip(transforms, sizes, strict=True):
            resized = transform.resize_and_normalize(pixels[None])[0]
            padded = tf.ensure_shape(image.pad_to(resized[None], size)[0], [*size, 3])
            levels.append({"images": padded, "image_size": tf.cast(tf.shape(resized)[:2], tf.float32)})
        return levels[0] | ({"pyramid": tuple(levels[1:])} if len(levels) > 1 else {})

    images = decoded(each(annotations), annotations, transforms[0])
    examples = images.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return unsharded(examples.batch(batch_size)).prefetch(2)


def batch_indices(
    groups: Sequence[Sequence[int]], batch_size: int, seed: int, start_step: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield steps and the images of their batches without end.

    In each epoch each group is permuted and the batches of all groups are shuffled. Images that do not fill a batch
    are left out for the epoch; with a single group, a batch continues with the next epoch's permutation instead.

    Args:
        groups: indices of images that may share a batch.
        batch_size: images in a batch.
        seed: seed of the permutations.
        start_step: the first step.
    """
    if len(groups) == 1:
        yield from _batches_of_one_group(np.array(groups[0]), batch_size, seed, start_step)
    step, steps = start_step, sum(len(group) // batch_size for group in groups)
    epoch, skipped = divmod(start_step, steps)
    while True:
        random = np.random.default_rng((seed, epoch))
        batches: list[np.ndarray] = []
        for group in groups:
            shuffled = random.permutation(group)
            whole = len(group) // batch_size * batch_size
            batches += list(shuffled[:whole].reshape(-1, batch_size))
        for number in random.permutation(len(batches))[skipped:]:
            yield step, batches[number]
            step += 1
        epoch, skipped = epoch + 1, 0


def _batches_of_one_group(
    group: np.ndarray, batch_size: int, seed: int, start_step: int
) -> Iterator[tuple[int, np.ndarray]]:
    @functools.lru_cache(maxsize=2)
    def permutation(epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(group)

    step = start_step
    while True:
        positions = range(step * batch_size, (step + 1) * batch_size)
        yield step, np.array([permutation(position // len(group))[position % len(group)] for position in positions])
        step += 1


def _chosen(annotations: Sequence[Annotation], most: int, seed: int) -> list[np.ndarray]:
    """The objects of each image that are trained on: all, or of more than `most` a random choice."""
    random = np.random.default_rng(seed)
    counts = [len(annotation.labels) for annotation in annotations]
    return [np.sort(random.permutation(count)[:most]) if count > most else np.arange(count) for count in counts]


def _ground_truth(
    annotations: Sequence[Annotation], objects: Sequence[np.ndarray], most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes f32[N,G,4] in [0, 1], labels i32[N,G] from 1 and crowd i32[N,G] of some objects, padded to G = most."""
    boxes = np.zeros((len(annotations), most, 4), "float32")
    labels = np.zeros((len(annotations), most), "int32")
    crowd = np.zeros((len(annotations), most), "int32")
    for number, (annotation, chosen) in enumerate(zip(annotations, objects, strict=True)):
        shares = annotation.clipped_boxes() / np.array([*annotation.size, *annotation.size], "float64")
        boxes[number, : len(chosen)] = shares[chosen]
        labels[number, : len(chosen)] = annotation.labels[chosen] + 1
        crowd[number, : len(chosen)] = annotation.crowd[chosen]
    return boxes, labels, crowd


def _flip(
    condition: tf.Tensor, pixels: tf.Tensor, boxes: tf.Tensor, size: tf.Tensor, vertical: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Flip an image f32[H,W,3] and its boxes f32[G,4] if the condition bool[] holds."""
    flipped = tf.cond(condition, lambda: tf.reverse(pixels, [0 if vertical else 1]), lambda: pixels)
    return flipped, tf.where(condition, box_ops.mirror(boxes, size, vertical=vertical), boxes)


def check_images(annotations: Sequence[Located], transform: Decoder) -> None:
    """Decode all images once, to find those that an evaluation would refuse before hours of training.

    Raises:
        ValueError: an image cannot be decoded, or has another size than its annotation.
    """
    try:
        for _ in decoded(each(annotations), annotations, transform).map(lambda pixels, index: index):
            pass
    except tf.errors.InvalidArgumentError as error:
        message = graph_errors.message_of(error)
        if message is None:
            raise
        raise InputError(message) from error


def each(annotations: Sequence[Located]) -> tf.data.Dataset:
    """Return a data set of the index of each image, i64[]."""
    return tf.data.Dataset.range(len(annotations))


def decoded(
    stream: tf.data.Dataset,
    annotations: Sequence[Located],
    transform: Decoder,
    *,
    groups: Sequence[Sequence[int]] = (),
    broken: BrokenFiles | None = None,
) -> tf.data.Dataset:
    """Read images in order: (index i64[], ...) -> (pixels u8[H,W,3], index of the image i64[], ...).

    Args:
        stream: indices of the images, alone or in tuples with other tensors.
        annotations: the images.
        transform: the transform, which says how to decode them.
        groups: indices of images that may take the place of each other; each image is in one group.
        broken: counter of files that cannot be decoded, each of which the next one of its group replaces; by default
            such a file raises an error that names it.
    """
    paths = tf.constant([annotation.path for annotation in annotations])
    sizes = tf.constant([annotation.size or (0, 0) for annotation in annotations], tf.int32)
    ring, start, place, count = _rings(groups or [[number] for number in range(len(annotations))])

    def read(index: tf.Tensor, *rest: tf.Tensor) -> tf.data.Dataset:
        # tf.data can only catch an error inside a graph by dropping the element, so the next of its group is tried, and
        # an empty image is the last resort.
        most = count[index] if broken else tf.constant(1, tf.int64)
        tries = tf.data.Dataset.range(most)
        images = tries.map(lambda skipped: (transform.decode(tf.io.read_file(paths[turn(index, skipped)])), skipped))
        empty = tf.data.Dataset.from_tensors((tf.zeros([0, 0, 3], tf.uint8), most))
        first = images.ignore_errors(log_warning=False).concatenate(empty).take(1)
        return first.map(lambda pixels, skipped: (pixels, skipped, index, *rest))

    def turn(index: tf.Tensor, skipped: tf.Tensor) -> tf.Tensor:
        """The image that comes some places after another in its group."""
        return tf.gather(ring, start[index] + (place[index] + skipped) % count[index])

    def check(pixels: tf.Tensor, skipped: tf.Tensor, index: tf.Tensor, *rest: tf.Tensor) -> Any:
        chosen = turn(index, skipped)
        with tf.control_dependencies(_checks(pixels, skipped, index, chosen)):
            return (tf.identity(pixels), chosen, *rest)

    def _checks(pixels: tf.Tensor, skipped: tf.Tensor, index: tf.Tensor, chosen: tf.Tensor) -> list[tf.Operation]:
        path, size, expected = paths[chosen], tf.shape(pixels)[:2], sizes[chosen]

        def report() -> tf.Tensor:
            assert broken is not None
            names = tf.gather(paths, turn(index, tf.range(skipped)))
            with tf.control_dependencies([graph_errors.check_call(broken.report, names)]):
                return tf.constant(True)

        reported = tf.cond(skipped > 0, report, lambda: tf.constant(True)) if broken else tf.constant(True)
        with tf.control_dependencies([reported]):
            readable = graph_errors.check(
                tf.size(pixels) > 0, "image ", path, f" is missing, damaged, too large or no {codecs.FORMATS} image."
            )
        with tf.control_dependencies([readable]):
            numbers = [tf.strings.as_string(side) for side in tf.unstack(tf.concat([size, expected], 0))]
            message = (numbers[0], "x", numbers[1], " pixels, but its annotation says ", numbers[2], "x", numbers[3])
            fits = graph_errors.check(
                tf.reduce_all((size == expected) | (expected == 0)), "image ", path, " has ", *message, "."
            )
        return [readable, fits]

    threads = os.cpu_count() or 1
    stream = stream.interleave(read, cycle_length=threads, num_parallel_calls=threads, deterministic=True)
    return stream.map(check)


def _rings(groups: Sequence[Sequence[int]]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """The images of all groups in a row; and for each image the start of its group, its place in it, and its length."""
    ring = np.concatenate(groups).astype("int64")
    start, place, count = np.zeros((3, len(ring)), "int64")
    first = 0
    for group in groups:
        index = np.array(group)
        start[index], place[index], count[index] = first, np.arange(len(index)), len(index)
        first += len(index)
    return tf.constant(ring), tf.constant(start), tf.constant(place), tf.constant(count)


def unsharded(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Return batches that `tf.distribute` does not divide among workers: each already has its part."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.with_options(options)
