"""The augmentations of training batches, their options, and the order in which they are applied.

An augmentation is one option of `Augmentations` and one function in `PIXEL`, `NORMALIZED` or `MIXING`. Its draws are a
pure function of the seed it gets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from keras_resnet import compat
from keras_resnet.data import stateless_layers
from keras_resnet.errors import InputError


def _option(maximum: float | None = None, layer: str = "") -> float:
    """Return the field of an option that is at least 0, where 0 switches the augmentation off.

    Args:
        maximum: the largest value, if there is one.
        layer: the layer of Keras that the augmentation uses.
    """
    return dataclasses.field(default=0.0, metadata={"maximum": maximum, "layer": layer})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentations:
    """Options of the augmentations; 0 or False switches one off.

    Attributes:
        pca_noise: standard deviation of AlexNet's color noise; 0.1 in the paper.
        rand_augment: magnitude of `keras.layers.RandAugment`, from 0 to 1.
        rand_augment_ops: operations of RandAugment per image.
        random_erase_prob: probability that `keras.layers.RandomErasing` erases a part of an image.
        mixup: alpha of `keras.layers.MixUp`.
        cutmix: alpha of `keras.layers.CutMix`, from 0 to 1. With MixUp too, each batch gets one of the two.
        classes: number of classes; labels become f32[B,K] if `mixup` or `cutmix` mixes them.
    """

    pca_noise: float = _option()
    rand_augment: float = _option(maximum=1, layer="RandAugment")
    rand_augment_ops: int = 2
    random_erase_prob: float = _option(maximum=1, layer="RandomErasing")
    mixup: float = _option(layer="MixUp")
    cutmix: float = _option(maximum=1, layer="CutMix")
    classes: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if "maximum" not in field.metadata:
                continue
            value, maximum = getattr(self, field.name), field.metadata["maximum"]
            if maximum is None and value < 0:
                raise InputError(f"{field.name} must not be negative; got {value}.")
            if maximum is not None and not 0 <= value <= maximum:
                raise InputError(f"{field.name} must be from 0 to {maximum}; got {value}.")
            if value and field.metadata["layer"]:
                compat.check_layer(field.metadata["layer"], field.name)
        if (self.mixup or self.cutmix) and self.classes < 1:
            raise InputError(f"classes must be at least 1 where labels are mixed; got {self.classes}.")


Apply = Callable[[Augmentations, tf.Tensor, tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """One augmentation of images.

    Attributes:
        option: field of `Augmentations` that switches it on.
        stream: number added to the seed, different for each augmentation; changing it changes the draws of old runs.
        apply: function of the options, images f32[B,H,W,3] and a seed i32[2] that returns the images.
    """

    option: str
    stream: int
    apply: Apply


def _each_image(augment: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Call a function of one image f32[H,W,3] and a seed for each image of a batch."""
    return tf.map_fn(
        lambda image_and_seed: augment(*image_and_seed),
        (images, tf.random.split(seed, tf.shape(images)[0])),
        fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32),
    )


def _rand_augment(options: Augmentations, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    layer = stateless_layers.rand_augment(options.rand_augment, options.rand_augment_ops)
    # Keras' layer applies the same operations to all images of a batch.
    return _each_image(lambda image, image_seed: layer(image[None], image_seed)[0], images, seed)


def _random_erase(options: Augmentations, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return stateless_layers.random_erasing(options.random_erase_prob)(images, seed)


PIXEL = (Augmentation("rand_augment", 1, _rand_augment),)
"""Augmentations of pixels in [0, 255], in their order; they follow `pca_noise`, which has the stream 0."""

NORMALIZED = (Augmentation("random_erase_prob", 3, _random_erase),)
"""Augmentations of normalized images, in their order; they follow the random crop of padded images, of stream 2."""

MIXING = {"mixup": stateless_layers.mix_up, "cutmix": stateless_layers.cut_mix}
"""Option -> function that mixes images and labels of a batch, given the option's value."""


def active(augmentations: tuple[Augmentation, ...], options: Augmentations) -> list[Augmentation]:
    """Return the augmentations that the options switch on."""
    return [augmentation for augmentation in augmentations if getattr(options, augmentation.option)]


def apply(
    augmentations: tuple[Augmentation, ...], options: Augmentations, images: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
    """Apply the augmentations that the options switch on to f32[B,H,W,3]; each image has its own draws."""
    for augmentation in active(augmentations, options):
        images = augmentation.apply(options, images, stream_seed(seed, augmentation.stream))
    return images


def stream_seed(seed: tf.Tensor, stream: int) -> tf.Tensor:
    """Return the seed i32[2] of a stream of draws."""
    return tf.add(seed, [0, stream])


def mix(options: Augmentations, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix the images of a batch with each other, if the options say so.

    Args:
        options: with `mixup`, `cutmix` and `classes`.
        images: f32[B,H,W,3] normalized.
        labels: i32[B].
        seed: i32[2].

    Returns:
        f32[B,H,W,3], and i32[B], or f32[B,K] if labels are mixed.
    """
    mixers = [make(getattr(options, name)) for name, make in MIXING.items() if getattr(options, name)]
    if not mixers:
        return images, labels
    seeds = tf.unstack(tf.random.split(seed, 2))
    batch = {"images": images, "labels": tf.one_hot(labels, options.classes)}
    first = tf.random.stateless_uniform([], seeds[1]) < 0.5
    mixed = tf.cond(first, lambda: mixers[0](batch, seeds[0]), lambda: mixers[-1](batch, seeds[0]))
    return mixed["images"], mixed["labels"]
