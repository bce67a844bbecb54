"""Views of an image: what training and evaluation show of it to the network."""

from __future__ import annotations

import dataclasses
import functools

import keras
import tensorflow as tf

from keras_resnet import compat
from keras_resnet.errors import InputError, check_choice
from keras_resnet.ops import codecs, image, windows

CROPS = ("pad", "scale", "inception", "center")

MINIMUM_SCALE = 32
"""Smallest shorter side of a dense view in pixels."""


NO_NORMALIZATION = ((0.0,) * 3, (1.0,) * 3)
"""Mean and standard deviation that leave pixels in [0, 255] as they are."""

CROP_FRACTION = 224 / 256
"""Side of the center crop over the shorter side, of photos whose size is not given (section 3.4)."""


def resize_of(size: tuple[int, int], resize: int = 0, images: tuple[int, int] | None = None) -> int:
    """Return the shorter side before the center crop of evaluation, in pixels; 0 for no resizing.

    Args:
        size: height and width of the crop.
        resize: the shorter side that was asked for; 0 for the default: 256/224 of the crop for images of different
            sizes; images of one size are scaled to the crop whole, as most training crops show them.
        images: height and width of the images if all have the same.
    """
    if images == size or size[0] != size[1]:
        return 0
    return resize or (0 if images else round(size[0] / CROP_FRACTION))


def for_photos(transform: EvalTransform) -> EvalTransform:
    """Return a test transform for photos of any size, of one for images that all have the network's size.

    For a network whose input is not square, the center of a photo that is large enough.
    """
    height, width = transform.size
    if transform.resize or height != width:
        return transform
    return dataclasses.replace(transform, resize=height)


@dataclasses.dataclass(frozen=True)
class EvalTransform:
    """The view for testing: the shorter side resized, the centre cropped, normalised.

    Attributes:
        size: height and width of the result.
        mean: mean of each channel, or of each pixel [H,W,3], in [0, 255].
        std: standard deviation of each channel.
        resize: length of the shorter side before the crop; 0 for no resizing. Images of one size that is `size` are
            taken whole.
        exif: turn JPEGs as their EXIF orientation says; ImageNet practice is not to.
    """

    size: tuple[int, int]
    mean: object
    std: object
    resize: int = 0
    exif: bool = False

    def __post_init__(self) -> None:
        if 0 < self.resize < max(self.size):
            raise InputError(f"resize must be at least the crop, {max(self.size)}, or 0; got {self.resize}.")

    @classmethod
    def unnormalized(cls, transform: EvalTransform) -> EvalTransform:
        """Return a transform of this class with the geometry of another one and without normalization."""
        return cls(transform.size, *NO_NORMALIZATION, transform.resize, transform.exif)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of what `decode` returns; None where it depends on the image."""
        return (*self.size, 3)

    @property
    def views(self) -> int:
        """Pictures that the network sees of each image."""
        return 1

    def decode(self, contents: tf.Tensor, max_pixels: int = codecs.MAX_PIXELS) -> tf.Tensor:
        """One file, string[] -> its view f32[H,W,3] in [0, 255].

        Raises:
            tf.errors.InvalidArgumentError: it cannot be decoded, or is smaller than the crop and not to be resized.
        """
        if self.exif:
            pixels = codecs.exif_orient(codecs.decode(contents, max_pixels), codecs.exif_orientation(contents))
            return self.crop(pixels)
        size = codecs.checked_dimensions(contents, max_pixels)
        return codecs.decode_window(contents, size, self.window(size), self.size)

    def crop(self, images: tf.Tensor) -> tf.Tensor:
        """Decoded images of any one size, u8[h,w,3] or u8[B,h,w,3] -> their views f32[H,W,3] or f32[B,H,W,3].

        Raises:
            tf.errors.InvalidArgumentError: they are smaller than the crop and not to be resized.
        """
        return image.resize_window(images, self.window(tf.shape(images)[-3:-1]), self.size)

    def window(self, size: tf.Tensor) -> tf.Tensor:
        """The window f32[4] of an image, given its i32[2] height and width."""
        crop = tf.constant(self.size, tf.int32)
        if self.resize:
            if self.size[0] != self.size[1]:
                raise InputError(f"resize wants a square view; got size {self.size}.")
            return windows.center_window(size, self.size[0], self.resize)
        fits = tf.debugging.Assert(
            tf.reduce_all(size >= crop), ["the image is smaller than the crop: height and width", size, "crop", crop]
        )
        with tf.control_dependencies([fits]):
            return tf.cast(tf.concat([(size - crop) // 2, crop], 0), tf.float32)

    def batch(self, images: tf.Tensor) -> tf.Tensor:
        """u8 or f32[B,h,w,3] in [0, 255] -> f32[B,H,W,3] normalised."""
        if tuple(images.shape[1:3]) != tuple(self.size):
            images = self.crop(images) if self.resize else tf.image.resize(images, self.size, antialias=True)
        return image.normalize(images, self.mean, self.std)

    def _decode_resized(self, contents: tf.Tensor, max_pixels: int) -> tf.Tensor:
        """The whole image with its shorter side resized, f32[h,w,3]."""
        pixels = self._decode_whole(contents, max_pixels)
        return image.resize_shorter(pixels, self.resize) if self.resize else pixels

    def _decode_whole(self, contents: tf.Tensor, max_pixels: int) -> tf.Tensor:
        """The whole image as it is stored, f32[h,w,3]."""
        pixels = codecs.decode(contents, max_pixels)
        if self.exif:
            pixels = codecs.exif_orient(pixels, codecs.exif_orientation(contents))
        return tf.cast(pixels, tf.float32)

    def _resize_batch(self, images: tf.Tensor) -> tf.Tensor:
        """The same for decoded images of one size, [B,h,w,3]."""
        short = min(images.shape[1:3])
        if not self.resize or short == self.resize:
            return tf.cast(images, tf.float32)
        size = [side * self.resize // short for side in images.shape[1:3]]
        return tf.image.resize(images, size, antialias=True)


@dataclasses.dataclass(frozen=True)
class IdentityTransform(EvalTransform):
    """The image as it is stored, for networks that crop and normalise it themselves.

    Attributes are those of `EvalTransform`, of what the network is thought to do with the image; only `exif` is used.
    """

    @property
    def shape(self) -> tuple[int | None, ...]:
        return (None, None, 3)

    def decode(self, contents: tf.Tensor, max_pixels: int = codecs.MAX_PIXELS) -> tf.Tensor:
        """One file, string[] -> the image f32[h,w,3] in [0, 255].

        Raises:
            tf.errors.InvalidArgumentError: it cannot be decoded.
        """
        return self._decode_whole(contents, max_pixels)

    def batch(self, images: tf.Tensor) -> tf.Tensor:
        """Images u8 or f32[B,h,w,3] of one size -> f32[B,h,w,3], unchanged."""
        return tf.cast(images, tf.float32)


@dataclasses.dataclass(frozen=True)
class TenCropTransform(EvalTransform):
    """The ten crops of Krizhevsky et al. (2012), section 4.1: corners and centre, and the same mirrored.

    Attributes are those of `EvalTransform`.
    """

    @property
    def shape(self) -> tuple[int | None, ...]:
        return (5, *self.size, 3)

    @property
    def views(self) -> int:
        return 10

    def decode(self, contents: tf.Tensor, max_pixels: int = codecs.MAX_PIXELS) -> tf.Tensor:
        """One file, string[] -> its five crops f32[5,H,W,3] in [0, 255].

        Raises:
            tf.errors.InvalidArgumentError: it cannot be decoded, or is smaller than the crop and not to be resized.
        """
        return windows.five_crops(self._decode_resized(contents, max_pixels)[None], self.size)[0]

    def batch(self, images: tf.Tensor) -> tf.Tensor:
        """Crops [B,5,H,W,3] or whole images [B,h,w,3] in [0, 255] -> f32[B,10,H,W,3] normalised, mirrored ones last."""
        if images.shape.rank == 4:
            images = windows.five_crops(self._resize_batch(images), self.size)
        both = tf.concat([images, tf.reverse(images, [3])], axis=1)
        return tf.reshape(image.normalize(_unfold(both), self.mean, self.std), [-1, 10, *self.size, 3])


@dataclasses.dataclass(frozen=True)
class DenseTransform(EvalTransform):
    """The whole image with its shorter side resized, for fully convolutional evaluation at one scale (section 3.4).

    Attributes:
        size: height and width of the network's own input, which the positions of the dense scores have.
        mean: mean of each channel in [0, 255].
        resize: length of the shorter side, at least 32 pixels.
        mirror: show the mirrored image too.
    """

    mirror: bool = False

    def __post_init__(self) -> None:
        if self.resize < MINIMUM_SCALE:
            raise InputError(f"scales must be at least {MINIMUM_SCALE} pixels; got {self.resize}.")
        if tf.TensorShape(getattr(self.mean, "shape", [3])).rank != 1:
            raise InputError("dense views want a mean of each channel; this network has one of each pixel.")

    @property
    def shape(self) -> tuple[int | None, ...]:
        return (None, None, 3)

    @property
    def views(self) -> int:
        return 2 if self.mirror else 1

    def decode(self, contents: tf.Tensor, max_pixels: int = codecs.MAX_PIXELS) -> tf.Tensor:
        """One file, string[] -> the whole image resized, f32[h,w,3] in [0, 255].

        Raises:
            tf.errors.InvalidArgumentError: it cannot be decoded.
        """
        return self._decode_resized(contents, max_pixels)

    def batch(self, images: tf.Tensor) -> tf.Tensor:
        """Images [B,h,w,3] of one size in [0, 255] -> f32[B,V,h',w',3] normalised, V = 2 where mirrored, else 1."""
        if None not in images.shape[1:3]:
            images = self._resize_batch(images)
        images = image.normalize(images, self.mean, self.std)
        return tf.stack([images, tf.reverse(images, [2])] if self.mirror else [images], axis=1)


def _unfold(images: tf.Tensor) -> tf.Tensor:
    """[B,V,H,W,C] -> [B*V,H,W,C]."""
    return tf.reshape(images, [-1, *images.shape[2:]])


_KERAS_LAYERS = {
    "rand_augment": "RandAugment",
    "random_erase_prob": "RandomErasing",
    "mixup": "MixUp",
    "cutmix": "CutMix",
}
"""Field of a `TrainTransform` -> the layer of Keras that it uses."""


@dataclasses.dataclass(frozen=True)
class TrainTransform:
    """The view for training: a random crop, and what else is switched on, in this order.

    Attributes:
        size: height and width of the result.
        mean: mean of each channel, or of each pixel [H,W,3], in [0, 255].
        std: standard deviation of each channel.
        crop: "pad", zero padding and a random crop of the original size (section 4.2); "scale", shorter side uniform in
            `scale_range` and a random crop (section 3.4); "inception", random area and aspect ratio; "center", none.
        pad: pixels of padding a side, for "pad".
        scale_range: range of the shorter side, for "scale".
        mirror: mirror half of the images.
        pca_noise: standard deviation of AlexNet's colour noise, 0.1 in the paper; 0 for none.
        rand_augment: magnitude of `keras.layers.RandAugment` in [0, 1]; 0 for none.
        rand_augment_ops: its operations on each image.
        random_erase_prob: share of images of which `keras.layers.RandomErasing` erases a part; 0 for none.
        mixup: alpha of `keras.layers.MixUp`; 0 for none.
        cutmix: alpha of `keras.layers.CutMix`, up to 1; 0 for none. With both, each batch gets one of them.
        classes: number of classes; labels become f32[B,K] where `mixup` or `cutmix` mixes them.
        exif: turn JPEGs as their EXIF orientation says.
        antialias: average pixels where a file's window shrinks; off, training is faster and its images noisier.
    """

    size: tuple[int, int]
    mean: object
    std: object
    crop: str = "pad"
    pad: int = 4
    scale_range: tuple[int, int] = (256, 480)
    mirror: bool = True
    pca_noise: float = 0.0
    rand_augment: float = 0.0
    rand_augment_ops: int = 2
    random_erase_prob: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    classes: int = 0
    exif: bool = False
    antialias: bool = False

    def __post_init__(self) -> None:
        check_choice("crop", self.crop, CROPS)
        if self.crop == "scale" and not max(self.size) <= self.scale_range[0] <= self.scale_range[1]:
            raise InputError(
                f"scale_range must increase from at least the crop, {max(self.size)}; got {self.scale_range}."
            )
        if self.size[0] != self.size[1]:
            check_choice("crop for a view that is not square", self.crop, ("pad", "inception", "center"))
        for name in ("rand_augment", "random_erase_prob", "cutmix"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be from 0 to 1; got {getattr(self, name)}.")
        for name in ("pad", "pca_noise", "mixup"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative; got {getattr(self, name)}.")
        for name, layer in _KERAS_LAYERS.items():
            if getattr(self, name):
                compat.check_layer(layer, name)
        if (self.mixup or self.cutmix) and self.classes < 1:
            raise InputError(f"classes must be at least 1 where labels are mixed; got {self.classes}.")

    @classmethod
    def from_options(cls, options: object, **values: object) -> TrainTransform:
        """Build the transform from an object that has its options as attributes, such as a configuration.

        Args:
            options: an object with an attribute for each field that `values` does not have.
            **values: the other fields: `size`, `mean`, `std` and `classes`.
        """
        names = [field.name for field in dataclasses.fields(cls) if field.name not in values]
        return cls(**{name: getattr(options, name) for name in names}, **values)

    def window(self, size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The window i32[4] or f32[4] of a file's image, given its i32[2] height and width."""
        if self.crop == "scale":
            return windows.scale_window(size, self.size[0], self.scale_range, seed)
        if self.crop == "inception":
            return windows.inception_window(size, seed)
        if self.size[0] == self.size[1]:
            return windows.center_window(size, self.size[0], self.size[0])
        return windows.whole_window(size)

    def decode(self, contents: tf.Tensor, seed: tf.Tensor, max_pixels: int = codecs.MAX_PIXELS) -> tf.Tensor:
        """One file, string[] -> its crop f32[H,W,3] in [0, 255], mirrored or not; only what it needs is decoded.

        Raises:
            tf.errors.InvalidArgumentError: it cannot be decoded.
        """
        mirror = tf.random.stateless_uniform([], tf.add(seed, [0, 1])) < 0.5 if self.mirror else False
        if self.exif:
            pixels = codecs.exif_orient(codecs.decode(contents, max_pixels), codecs.exif_orientation(contents))
            pixels = image.resize_window(pixels, self.window(tf.shape(pixels)[:2], seed), self.size)
            return tf.cond(mirror, lambda: tf.reverse(pixels, [1]), lambda: pixels) if self.mirror else pixels
        size = codecs.checked_dimensions(contents, max_pixels)
        return codecs.decode_window(
            contents,
            size,
            self.window(size, seed),
            self.size,
            antialias=self.antialias,
            scaled_decoding=True,
            mirror=mirror,
        )

    def crop_images(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Decoded images of one size, [B,h,w,3] -> [B,H,W,3], each with its own window and mirrored or not."""
        if self.mirror:
            images = image.random_mirror(images, tf.random.fold_in(seed, 1))
        if self.crop in ("scale", "inception"):
            size = tf.constant(list(images.shape[1:3]), tf.int32)
            seeds = tf.random.split(seed, images.shape[0])
            drawn = tf.map_fn(
                lambda s: tf.cast(self.window(size, s), tf.float32), seeds, fn_output_signature=tf.float32
            )
            drawn /= tf.cast(tf.tile(size, [2]), tf.float32)
            boxes = tf.concat([drawn[:, :2], drawn[:, :2] + drawn[:, 2:]], 1)
            return tf.image.crop_and_resize(images, boxes, tf.range(images.shape[0]), self.size)
        if tuple(images.shape[1:3]) != tuple(self.size):
            return tf.image.resize(images, self.size, antialias=True)
        return images

    def augment(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Everything between crop and mirror and the mixing of a batch; each image has its own draws.

        Args:
            images: u8 or f32[B,H,W,3] in [0, 255].
            seed: i32[2]; draws take it and the next three of its second number.

        Returns:
            f32[B,H,W,3] normalised.
        """
        seeds = [tf.add(seed, [0, number]) for number in range(4)]
        noise = image.color_noise(tf.shape(images)[0], self.pca_noise, seeds[0]) if self.pca_noise else None
        if self.rand_augment:
            images = tf.cast(images, tf.float32) + (0.0 if noise is None else noise[:, None, None])
            images, noise = tf.clip_by_value(images, 0, 255), None
            augment = _rand_augment(self.rand_augment, self.rand_augment_ops)
            # One by one, since Keras' layer applies the same operations to all images of a batch.
            images = tf.map_fn(
                lambda one: augment(one[0][None], one[1])[0],
                (images, tf.random.split(seeds[1], tf.shape(images)[0])),
                fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32),
            )
        # Normalised before padding, so that the zeros of the padding are the mean.
        images = image.normalize(images, self.mean, self.std, noise)
        if self.crop == "pad" and self.pad:
            images = image.random_crop(images, self.pad, seeds[2])
        if self.random_erase_prob:
            images = _erase(self.random_erase_prob)(images, seeds[3])
        return images

    def mix(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mix the images of a batch with each other, where that is switched on.

        Args:
            images: f32[B,H,W,3] normalised.
            labels: i32[B].
            seed: i32[2].

        Returns:
            f32[B,H,W,3], and i32[B], or f32[B,K] where labels are mixed.
        """
        mixers = [make(alpha) for make, alpha in ((_mix_up, self.mixup), (_cut_mix, self.cutmix)) if alpha]
        if not mixers:
            return images, labels
        seeds = tf.unstack(tf.random.split(seed, 2))
        batch = {"images": images, "labels": tf.one_hot(labels, self.classes)}
        first = tf.random.stateless_uniform([], seeds[1]) < 0.5
        mixed = tf.cond(first, lambda: mixers[0](batch, seeds[0]), lambda: mixers[-1](batch, seeds[0]))
        return mixed["images"], mixed["labels"]


class _Draws(compat.SeedGenerator):
    """Seeds for a Keras layer that follow from one tensor, in place of Keras' generator, which has a state."""

    def __init__(self, stream: int):
        self.stream, self.count, self.seed = stream, 0, None

    def next(self, ordered=True):
        self.count += 1
        return tf.random.fold_in(self.seed, self.stream * 1000 + self.count)


def _seeded(layer: keras.layers.Layer):
    """Turn a random layer of Keras into a pure function of (inputs, seed)."""
    inner = [value for value in vars(layer).values() if isinstance(value, keras.layers.Layer)]
    draws = []
    for number, part in enumerate([layer, *inner]):
        if hasattr(part, "generator"):
            draws.append(_Draws(number))
            part.generator = draws[-1]

    def call(inputs, seed):
        for draw in draws:
            draw.seed, draw.count = seed, 0
        return layer(inputs, training=True)

    return call


# A view is made once and traced several times; the layers' own dtype keeps them from the global policy.
@functools.cache
def _rand_augment(magnitude: float, count: int):
    layer = keras.layers.RandAugment(value_range=(0, 255), num_ops=count, factor=magnitude, seed=0, dtype="float32")
    return _seeded(layer)


# One number for a factor is a range from 0 to Keras.
@functools.cache
def _erase(share: float):
    return _seeded(
        keras.layers.RandomErasing(factor=(share, share), fill_value=0.0, value_range=(-4, 4), seed=0, dtype="float32")
    )


@functools.cache
def _mix_up(alpha: float):
    return _seeded(keras.layers.MixUp(alpha=alpha, seed=0, dtype="float32"))


@functools.cache
def _cut_mix(alpha: float):
    return _seeded(keras.layers.CutMix(factor=(alpha, alpha), seed=0, dtype="float32"))
