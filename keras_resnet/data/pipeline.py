"""Batches for training and evaluation: (image f32[B,H,W,3], label i32[B])."""

from __future__ import annotations

import tensorflow as tf

from keras_resnet.data.datasets import Dataset
from keras_resnet.errors import InputError
from keras_resnet.ops import image


def train(
    dataset: Dataset,
    batch_size: int,
    *,
    seed: int = 0,
    pad: int = 4,
    mirror: bool = True,
    split: str = "train",
) -> tf.data.Dataset:
    """Return endless shuffled batches with the augmentation of section 4.2: random crop of the padded image, mirror.

    Every draw is a pure function of the seed and the step.

    Args:
        dataset: where the images come from.
        batch_size: images in a batch.
        seed: of shuffling and augmentation.
        pad: pixels of zero padding a side before the crop; 0 for no crop.
        mirror: whether to mirror half of the images.
        split: which examples.

    Returns:
        `tf.data.Dataset` of (f32[B,H,W,3] normalised, i32[B]).

    Raises:
        ValueError: the split is unknown or smaller than a batch.
    """
    images, labels = dataset.arrays(split)
    if not 1 <= batch_size <= len(labels):
        raise InputError(f"batch_size must be from 1 to the {len(labels)} images of {split!r}; got {batch_size}.")
    facts = dataset.facts

    def augment(step, batch):
        pixels, label = batch
        # Normalised before padding, so that the zeros of the padding are the mean.
        pixels = image.normalize(pixels, facts.mean, facts.std)
        seeds = tf.random.split(tf.stack([tf.cast(seed, tf.int64), step]), 2)
        if pad:
            pixels = image.random_crop(pixels, pad, seeds[0])
        if mirror:
            pixels = image.random_mirror(pixels, seeds[1])
        return tf.ensure_shape(pixels, [batch_size, *images.shape[1:]]), label

    batches = tf.data.Dataset.from_tensor_slices((images, labels))
    batches = batches.shuffle(len(labels), seed=seed, reshuffle_each_iteration=True).repeat()
    batches = batches.batch(batch_size, drop_remainder=True).enumerate()
    return batches.map(augment, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def evaluate(dataset: Dataset, batch_size: int, split: str = "test") -> tf.data.Dataset:
    """Return each image of a split once, in order, whole and normalised; the last batch may be smaller.

    Args:
        dataset: where the images come from.
        batch_size: images in a batch.
        split: which examples.

    Returns:
        `tf.data.Dataset` of (f32[B,H,W,3], i32[B]).
    """
    facts = dataset.facts
    batches = tf.data.Dataset.from_tensor_slices(dataset.arrays(split)).batch(batch_size)
    return batches.map(
        lambda pixels, label: (image.normalize(pixels, facts.mean, facts.std), label),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).prefetch(tf.data.AUTOTUNE)
