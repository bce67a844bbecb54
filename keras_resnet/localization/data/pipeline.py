"""Batches for the two stages, and images for evaluation.

A batch of the first stage is a dictionary of `images` f32[B,S,S,3], `labels` i32[B], `boxes` f32[B,M,4] in pixels of
the crop with zeros for padding, and `seed` i32[B,2] for the sampling of anchors. A batch of the second stage has
`images` f32[B,S,S,3], the warped proposals, `labels` i32[B], `proposals` f32[B,4], `boxes` f32[B,4], the true box that
each overlaps most, and `positive` i32[B]. Both are pure functions of the run's seed and the step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from keras_resnet.data.pipeline import BrokenFiles, Share, epoch_index, stateless_seed
from keras_resnet.data.transforms import WholeImageTransform
from keras_resnet.detection.average_precision import pairwise_iou
from keras_resnet.detection.data.annotations import clip
from keras_resnet.detection.data.pipeline import decoded, each, unsharded
from keras_resnet.errors import InputError
from keras_resnet.localization.data import crops
from keras_resnet.localization.data.examples import Example, padded_boxes
from keras_resnet.localization.data.transforms import TrainTransform
from keras_resnet.ops import boxes as box_ops
from keras_resnet.ops import graph_errors, image


def train(
    examples: Sequence[Example],
    batch_size: int,
    transform: TrainTransform,
    *,
    seed: int = 0,
    start_step: int = 0,
    max_boxes: int = 20,
    max_broken: float = 0.001,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Return endless batches of random crops for the first stage; each epoch is a permutation of the images.

    Args:
        examples: the training images; those without a box are left out.
        batch_size: images in a batch, over all workers.
        transform: crops and normalization.
        seed: seed of the order, the transform and the sampling of anchors.
        start_step: step of the first batch.
        max_boxes: most boxes of an image; of more, the largest are kept.
        max_broken: fraction of images that may fail to decode. They are counted and logged, and the next image that can
            be decoded takes the place of each.
        context: input context of `tf.distribute`: each worker gets its part of every batch.

    Returns:
        `tf.data.Dataset` of dictionaries; see the top of this file.

    Raises:
        ValueError: the batch size is larger than the number of images with a box, or is no multiple of the workers.
        tf.errors.InvalidArgumentError: from a batch, if too many images cannot be decoded, or one has another size than
            its annotation; the error names the file.
    """
    examples = [example for example in examples if len(example.boxes)]
    count = len(examples)
    if not 1 <= batch_size <= count:
        raise InputError(f"batch_size must be from 1 to the {count} training images with a box; got {batch_size}.")
    share = Share.of(batch_size, context)
    rows, starts = padded_boxes(examples, max_boxes)
    boxes, first, labels = tf.constant(rows), tf.constant(starts), _labels(examples)
    padded = int(np.max(np.diff(starts)))

    def index(place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return epoch_index(place[None], count, seed, True)[0], place

    def example(pixels: tf.Tensor, index: tf.Tensor, place: tf.Tensor) -> dict[str, tf.Tensor]:
        seeds = tf.random.split(stateless_seed(seed, place), 2)
        own = boxes[first[index] : first[index + 1]]
        own = tf.ensure_shape(tf.pad(own, [[0, padded - tf.shape(own)[0]], [0, 0]]), [padded, 4])
        crop, own = transform(pixels, own, seeds[0])
        return {"images": crop, "labels": labels[index], "boxes": own, "seed": seeds[1]}

    places = tf.data.Dataset.range(start_step, tf.int64.max).map(share.places).unbatch()
    broken = BrokenFiles(count, max_broken)
    stream = decoded(places.map(index), examples, transform, groups=[range(count)], broken=broken)
    stream = stream.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return unsharded(stream.batch(share.size, drop_remainder=True)).prefetch(2)


@dataclasses.dataclass(frozen=True)
class Samples:
    """The training samples of the second stage: the proposals of all images in a row.

    Attributes:
        image: i64[T], index of the image of each.
        proposals: f32[T,4] in pixels of the image.
        boxes: f32[T,4], the true box that each overlaps most.
        positive: i64[P], indices of the proposals whose IoU with it is high enough.
        negative: i64[N], indices of those whose IoU is low enough.
    """

    image: np.ndarray
    proposals: np.ndarray
    boxes: np.ndarray
    positive: np.ndarray
    negative: np.ndarray

    @classmethod
    def of(
        cls,
        examples: Sequence[Example],
        proposals: Sequence[np.ndarray],
        positive_iou: float = 0.5,
        negative_iou: float = 0.5,
    ) -> Samples:
        """Match the proposals of each image to its true boxes, which are proposals too.

        Args:
            examples: the images.
            proposals: f32[n,4] of each image, in its pixels; images without any or without a box are left out.
            positive_iou: smallest IoU with a true box of a positive proposal.
            negative_iou: a proposal is negative if its highest IoU is below this.

        Raises:
            ValueError: there are not as many lists of proposals as images, or no image has any.
        """
        if len(proposals) != len(examples):
            raise InputError(
                f"proposals must be those of each of the {len(examples)} images; got those of {len(proposals)}."
            )
        columns: list[tuple[np.ndarray, ...]] = []
        for number, (example, proposed) in enumerate(zip(examples, proposals, strict=True)):
            if not len(proposed) or not len(example.boxes):
                continue
            true = example.boxes if example.size is None else clip(example.boxes, example.size)
            boxes = np.concatenate([np.asarray(proposed, "float64"), true])
            ious = pairwise_iou(boxes, true)
            columns.append((np.full(len(boxes), number), boxes, true[ious.argmax(1)], ious.max(1)))
        if not columns:
            raise InputError("proposals must have at least one of an image with a box; there is none.")
        image_index, boxes, targets, highest = (np.concatenate(column) for column in zip(*columns, strict=True))
        positive, negative = np.flatnonzero(highest >= positive_iou), np.flatnonzero(highest < negative_iou)
        return cls(image_index, boxes.astype("float32"), targets.astype("float32"), positive, negative)


def train_crops(
    examples: Sequence[Example],
    proposals: Sequence[np.ndarray],
    batch_size: int,
    transform: TrainTransform,
    *,
    positive_fraction: float = 0.5,
    positive_iou: float = 0.5,
    negative_iou: float = 0.5,
    context_pixels: int = 0,
    seed: int = 0,
    start_step: int = 0,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Return endless batches of warped proposals for the second stage.

    Sampling is RoI-centric: each batch has a fixed number of positive and of negative proposals, and each of these is a
    permutation of all of its kind, over all images, for each of its epochs.

    Args:
        examples: the training images.
        proposals: f32[n,4] of each image, in its pixels. True boxes are proposals too, of images that have any other.
        batch_size: crops in a batch, over all workers.
        transform: size of the crops, mirroring and normalization.
        positive_fraction: fraction of the crops of a batch that are positive, rounded to a whole number; all or none if
            there are no proposals of the other kind.
        positive_iou: smallest IoU with a true box of a positive proposal.
        negative_iou: a proposal is negative if its highest IoU is below this.
        context_pixels: see `crops.warp`.
        seed: seed of the order and of mirroring.
        start_step: step of the first batch.
        context: input context of `tf.distribute`: each worker gets its part of every batch.

    Returns:
        `tf.data.Dataset` of dictionaries; see the top of this file. The boxes of mirrored crops are those in the
        mirrored image.

    Raises:
        ValueError: the batch size is no multiple of the workers, or there are no proposals.
        tf.errors.InvalidArgumentError: from a batch, if an image cannot be decoded or has another size than its
            annotation; the error names the file.
    """
    share = Share.of(batch_size, context)
    samples = Samples.of(examples, proposals, positive_iou, negative_iou)
    positives = round(batch_size * positive_fraction)
    positives = batch_size if not len(samples.negative) else positives if len(samples.positive) else 0
    labels = _labels(examples)
    columns = [tf.constant(column) for column in (samples.image, samples.proposals, samples.boxes)]
    kinds = [_Kind(samples.negative, batch_size - positives, seed, 0), _Kind(samples.positive, positives, seed, 1)]

    def choose(place: tf.Tensor) -> tuple[tf.Tensor, ...]:
        step, slot = place // batch_size, place % batch_size
        is_positive = slot < positives
        sample = tf.cond(
            is_positive, lambda: kinds[1].sample(step, slot), lambda: kinds[0].sample(step, slot - positives)
        )
        return (*(tf.gather(column, sample) for column in columns), is_positive, place)

    def crop(
        pixels: tf.Tensor,
        index: tf.Tensor,
        proposal: tf.Tensor,
        box: tf.Tensor,
        is_positive: tf.Tensor,
        place: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        seeds = tf.random.split(stateless_seed(seed, place), 2)
        both, size = tf.stack([proposal, box]), tf.cast(tf.shape(pixels)[:2], tf.float32)
        noise = image.color_noise(1, transform.pca_noise, seeds[1]) if transform.pca_noise else None
        pixels = image.normalize(pixels[None], transform.mean, transform.std, noise)[0]
        warped = crops.warp(pixels, proposal[None], transform.crop_size, context_pixels)[0]
        if transform.mirror:
            mirrored = tf.random.stateless_uniform([], seeds[0]) < 0.5
            warped = image.mirror(warped, mirrored)
            both = tf.where(mirrored, box_ops.mirror(both, size), both)
        return {
            "images": tf.ensure_shape(warped, [transform.crop_size, transform.crop_size, 3]),
            "labels": labels[index],
            "proposals": both[0],
            "boxes": both[1],
            "positive": tf.cast(is_positive, tf.int32),
        }

    places = tf.data.Dataset.range(start_step, tf.int64.max).map(share.places).unbatch()
    stream = decoded(places.map(choose), examples, transform)
    stream = stream.map(crop, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return unsharded(stream.batch(share.size, drop_remainder=True)).prefetch(2)


class _Kind:
    """The positive or the negative proposals, an endless stream of permutations.

    Args:
        indices: i64[N], indices of the proposals.
        count: how many of them are in a batch.
        seed: seed of the run.
        number: number of the kind, so that both have orders of their own.
    """

    def __init__(self, indices: np.ndarray, count: int, seed: int, number: int):
        self.indices, self.total = tf.constant(indices, tf.int64), len(indices)
        self.count, self.seed = count, 2 * seed + number

    def sample(self, step: tf.Tensor, slot: tf.Tensor) -> tf.Tensor:
        """Return the index of the proposal at a place of a step, i64[]."""
        if not self.total:
            return tf.constant(0, tf.int64)
        return self.indices[epoch_index((step * self.count + slot)[None], self.total, self.seed, True)[0]]


def evaluate(examples: Sequence[Example], transform: WholeImageTransform) -> Iterator[tuple[int, tf.Tensor]]:
    """Yield each image once, in order and at its own size: its index and its pixels u8[H,W,3].

    Raises:
        ValueError: an image cannot be decoded, or has another size than its annotation.
    """
    stream = decoded(each(examples), examples, transform).prefetch(2)
    try:
        for pixels, index in stream:
            yield int(index), pixels
    except tf.errors.InvalidArgumentError as error:
        message = graph_errors.message_of(error)
        if message is None:
            raise
        raise InputError(message) from error


def _labels(examples: Sequence[Example]) -> tf.Tensor:
    """The class of each example, i32[N]."""
    return tf.constant([example.label for example in examples], tf.int32)
