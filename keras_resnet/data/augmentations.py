"""The augmentations of training batches, their options, and the order in which they are applied.

An augmentation is one option of `Augmentations` and one function in `PIXEL`, `NORMALIZED` or `MIXING`. Its draws are a
pure function of the seed it gets.
"""

from __future__ import annotations

import dataclasses
import functools
import math
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
        trivial_augment: whether to apply TrivialAugment: one random operation of random magnitude per image.
        random_erase_prob: probability that `keras.layers.RandomErasing` erases a part of an image.
        mixup: alpha of `keras.layers.MixUp`.
        cutmix: alpha of `keras.layers.CutMix`, from 0 to 1. With MixUp too, each batch gets one of the two.
        classes: number of classes; labels become f32[B,K] if `mixup` or `cutmix` mixes them.
    """

    pca_noise: float = _option()
    rand_augment: float = _option(maximum=1, layer="RandAugment")
    rand_augment_ops: int = 2
    trivial_augment: bool = False
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


# TrivialAugment (Müller and Hutter, 2021), the Wide space: one operation per image, of one of 31 magnitudes. Operations
# are functions of pixels i32[H,W,3], a magnitude f64[] in [0, 1] and a sign f64[], and equal Pillow's to the bit.


def _affine(pixels: tf.Tensor, matrix: list) -> tf.Tensor:
    """Return the pixel nearest to (a x + b y + c, d x + e y + f) at each place (x, y), and 0 outside of the image."""
    height, width = tf.shape(pixels)[0], tf.shape(pixels)[1]
    a, b, c, d, e, f = (tf.cast(value, tf.float64) for value in matrix)
    x, y = tf.range(width)[None], tf.range(height)[:, None]

    def source(along_x: tf.Tensor, along_y: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
        # In units of 1/65536, as Pillow counts.
        units = tf.floor(tf.stack([along_x, along_y, offset + (along_x + along_y) / 2]) * 65536 + 0.5)
        step_x, step_y, start = tf.unstack(tf.cast(units, tf.int32))
        return (step_x * x + step_y * y + start) // 65536

    column, row = source(a, b, c), source(d, e, f)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    places = tf.where(inside, row * width + column, 0)
    return tf.where(inside[..., None], tf.gather(tf.reshape(pixels, [-1, 3]), places), 0)


def _rotate(pixels: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    angle = -sign * magnitude * math.radians(135)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    y, x = (tf.cast(tf.shape(pixels)[axis], tf.float64) / 2 for axis in (0, 1))
    return _affine(pixels, [cosine, sine, x - x * cosine - y * sine, -sine, cosine, y + x * sine - y * cosine])


def _blend(degenerate: tf.Tensor, pixels: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    """Move pixels away from, or towards, those of a degenerate image."""
    factor = tf.cast(1 + sign * 0.99 * magnitude, tf.float32)
    blended = tf.cast(degenerate, tf.float32) + factor * tf.cast(pixels - degenerate, tf.float32)
    return tf.cast(tf.clip_by_value(blended, 0, 255), tf.int32)


def _gray(pixels: tf.Tensor) -> tf.Tensor:
    return (tf.reduce_sum(pixels * [19595, 38470, 7471], axis=-1, keepdims=True) + 32768) // 65536


def _contrast(pixels: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    mean = tf.reduce_mean(tf.cast(_gray(pixels), tf.float64))
    return _blend(tf.cast(mean + 0.5, tf.int32), pixels, magnitude, sign)


def _sharpness(pixels: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    rows = pixels[:-2] + pixels[1:-1] + pixels[2:]
    total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    inner = pixels[1:-1, 1:-1]
    smooth = (2 * (total + 4 * inner) + 13) // 26
    return _blend(pixels + tf.pad(smooth - inner, [[1, 1], [1, 1], [0, 0]]), pixels, magnitude, sign)


def _posterize(pixels: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    unit = 2 ** tf.cast(tf.round(6 * magnitude), tf.int32)
    return pixels // unit * unit


def _solarize(pixels: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    return tf.where(tf.cast(pixels, tf.float64) < 255 - 255 * magnitude, pixels, 255 - pixels)


def _auto_contrast(pixels: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    values = tf.cast(pixels, tf.float64)
    low, high = tf.reduce_min(values, [0, 1]), tf.reduce_max(values, [0, 1])
    scale = 255 / tf.maximum(high - low, 1)
    stretched = tf.cast(tf.clip_by_value(values * scale - low * scale, 0, 255), tf.int32)
    return tf.where(high > low, stretched, pixels)


def _equalize(pixels: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    bins = pixels + tf.constant([0, 256, 512])
    counts = tf.reshape(tf.math.bincount(tf.reshape(bins, [-1]), minlength=768, maxlength=768), [3, 256])
    largest = tf.gather(counts, tf.reduce_max(pixels, [0, 1]), batch_dims=1)
    step = ((tf.reduce_sum(counts, 1) - largest) // 255)[:, None]
    table = (step // 2 + tf.cumsum(counts, axis=1, exclusive=True)) // tf.maximum(step, 1)
    table = tf.where(step > 0, tf.minimum(table, 255), tf.range(256))
    return tf.gather(tf.reshape(table, [-1]), bins)


TRIVIAL_OPERATIONS: dict[str, Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "identity": lambda pixels, magnitude, sign: pixels,
    "shear_x": lambda pixels, magnitude, sign: _affine(pixels, [1, sign * 0.99 * magnitude, 0, 0, 1, 0]),
    "shear_y": lambda pixels, magnitude, sign: _affine(pixels, [1, 0, 0, sign * 0.99 * magnitude, 1, 0]),
    "translate_x": lambda pixels, magnitude, sign: _affine(pixels, [1, 0, sign * tf.floor(32 * magnitude), 0, 1, 0]),
    "translate_y": lambda pixels, magnitude, sign: _affine(pixels, [1, 0, 0, 0, 1, sign * tf.floor(32 * magnitude)]),
    "rotate": _rotate,
    "brightness": lambda pixels, magnitude, sign: _blend(tf.zeros_like(pixels), pixels, magnitude, sign),
    "color": lambda pixels, magnitude, sign: _blend(_gray(pixels), pixels, magnitude, sign),
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
}
TRIVIAL_MAGNITUDES = 31
"""Number of magnitudes, evenly spaced from none to the largest."""


def trivial_operation(name: str, image: tf.Tensor, level: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    """Apply one operation of TrivialAugment to an image, whose pixels are first rounded to integers.

    Args:
        name: a key of `TRIVIAL_OPERATIONS`.
        image: f32[H,W,3] in [0, 255].
        level: i32[], the magnitude, from 0 to 30.
        sign: i32[], 1 or -1, the direction of operations that have one.

    Returns:
        f32[H,W,3] in [0, 255].
    """
    pixels = tf.cast(tf.round(image), tf.int32)
    magnitude = tf.cast(level, tf.float64) / (TRIVIAL_MAGNITUDES - 1)
    return tf.cast(TRIVIAL_OPERATIONS[name](pixels, magnitude, tf.cast(sign, tf.float64)), tf.float32)


def _trivial_augment(options: Augmentations, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    def augment(image: tf.Tensor, image_seed: tf.Tensor) -> tf.Tensor:
        choices = tf.constant([len(TRIVIAL_OPERATIONS), TRIVIAL_MAGNITUDES, 2], tf.float32)
        draws = tf.random.stateless_uniform([3], image_seed)
        operation, level, negative = tf.unstack(tf.cast(draws * choices, tf.int32))
        branches = [
            functools.partial(trivial_operation, name, image, level, 1 - 2 * negative) for name in TRIVIAL_OPERATIONS
        ]
        return tf.ensure_shape(tf.switch_case(operation, branches), image.shape)

    return _each_image(augment, images, seed)


PIXEL = (Augmentation("rand_augment", 1, _rand_augment), Augmentation("trivial_augment", 4, _trivial_augment))
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
