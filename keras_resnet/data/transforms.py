"""Transforms: how files and decoded images become the network's input, in training and in evaluation.

A *view* is one of several crops of the same image that evaluation shows to the network.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from keras_resnet.data import augmentations
from keras_resnet.data.augmentations import Augmentations
from keras_resnet.errors import InputError, check_choice, integer
from keras_resnet.ops import codecs, image, windows

CROPS = ("pad", "scale", "inception", "center")

MINIMUM_SCALE = 32
"""Smallest shorter side of a dense transform in pixels."""

NO_NORMALIZATION = ((0.0,) * 3, (1.0,) * 3)
"""Mean and standard deviation that leave pixels in [0, 255] as they are."""

RESIZE_RATIO = 256 / 224
"""The shorter side over the side of the center crop, for photos (section 3.4 of the paper)."""


def default_resize(size: tuple[int, int]) -> int:
    """Return the shorter side, in pixels, to which photos are resized before a center crop of `size`."""
    return round(max(size) * RESIZE_RATIO)


def resize_of(size: tuple[int, int], resize: int = 0, images: tuple[int, int] | None = None) -> int:
    """Return the shorter side before the center crop of evaluation, in pixels; 0 for no resizing.

    Args:
        size: height and width of the crop.
        resize: the requested shorter side; 0 for the default: 256/224 of the crop for images of different sizes. Images
            of one size are scaled to the crop as a whole, as most training crops show them.
        images: height and width of the images if all have the same.
    """
    if images == size or size[0] != size[1]:
        return 0
    return resize or (0 if images else default_resize(size))


def for_photos(transform: EvalTransform) -> EvalTransform:
    """Return the transform for photos of any size that corresponds to one for images of the network's size.

    If the network's input is not square, it is the center crop of a photo that is large enough.
    """
    height, width = transform.size
    if transform.resize or height != width:
        return transform
    return dataclasses.replace(transform, resize=height)


def check_size(size: Any) -> None:
    """Raise `InputError` unless `size` is the height and width of images in pixels."""
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise InputError(f"size must be (height, width) in pixels; got {size!r}.")
    for side in size:
        integer("size", side, minimum=1)


def check_normalization(mean: Any, std: Any) -> None:
    """Raise `InputError` for a mean that is not finite, or a standard deviation that is not positive.

    Pixels divided by 0 would be infinite or NaN, and training would fail long after the mistake.
    """
    for name, value in (("mean", mean), ("std", std)):
        if value is None:
            continue
        try:
            numbers = np.asarray(value, "float64")
        except (TypeError, ValueError):
            numbers = np.array(np.nan)
        if not np.isfinite(numbers).all() or (name == "std" and (numbers <= 0).any()):
            allowed = "positive numbers" if name == "std" else "numbers"
            raise InputError(f"{name} must be {allowed}, one for each channel; got {value!r}.")


class Transform(Protocol):
    """How evaluation shows images to a network."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input in pixels."""

    @property
    def resize(self) -> int:
        """Length of the shorter side before crops; 0 for no resizing."""

    @property
    def exif(self) -> bool:
        """Whether JPEGs are rotated by their EXIF orientation."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of the result of `decode`; None where it depends on the image."""

    @property
    def views(self) -> int:
        """Number of views of each image."""

    def decode(self, contents: tf.Tensor, max_pixels: int = codecs.MAX_PIXELS) -> tf.Tensor:
        """Decode one file, string[] -> f32 of `shape` in [0, 255].

        Raises:
            tf.errors.InvalidArgumentError: the file cannot be decoded, or is too small for a crop without resizing.
        """

    def batch(self, images: tf.Tensor) -> tf.Tensor:
        """Turn a batch from `decode`, or decoded images of one size, into the network's input.

        Args:
            images: f32[B,*shape], or u8 or f32[B,h,w,3] in [0, 255].

        Returns:
            f32[B,H,W,3] normalized, or f32[B,V,H,W,3] of a transform to V > 1 views.
        """


@dataclasses.dataclass(frozen=True)
class EvalTransform:
    """Resize the shorter side, crop the center and normalize.

    Attributes:
        size: height and width of the result.
        mean: mean of each channel, or of each pixel [H,W,3], in [0, 255].
        std: standard deviation of each channel.
        resize: length of the shorter side before the crop; 0 for no resizing. Images of one size that is `size` are
            taken as they are.
        exif: rotate JPEGs by their EXIF orientation; ImageNet practice is not to.
    """

    size: tuple[int, int]
    mean: Any
    std: Any
    resize: int = 0
    exif: bool = False

    def __post_init__(self) -> None:
        check_size(self.size)
        check_normalization(self.mean, self.std)
        if 0 < self.resize < max(self.size):
            raise InputError(f"resize must be at least the crop, {max(self.size)}, or 0; got {self.resize}.")

    @classmethod
    def unnormalized(cls, transform: Transform) -> EvalTransform:
        """Return the transform to the crops of another one with pixels in [0, 255]."""
        return cls(transform.size, *NO_NORMALIZATION, transform.resize, transform.exif)

    @property
    def shape(self) -> tuple[int | None, ...]:
        return (*self.size, 3)

    @property
    def views(self) -> int:
        return 1

    def decode(self, contents: tf.Tensor, max_pixels: int = codecs.MAX_PIXELS) -> tf.Tensor:
        """Decode one file, string[] -> its center crop f32[H,W,3] in [0, 255]; only what the crop needs is decoded."""
        if self.exif:
            return self.crop(codecs.decode_upright(contents, max_pixels))
        size = codecs.checked_dimensions(contents, max_pixels)
        return codecs.decode_window(contents, size, self.window(size), self.size)

    def crop(self, images: tf.Tensor) -> tf.Tensor:
        """Crop decoded images of any one size, u8[h,w,3] or u8[B,h,w,3] -> f32[H,W,3] or f32[B,H,W,3].

        Raises:
            tf.errors.InvalidArgumentError: the images are smaller than the crop and are not resized.
        """
        return image.resize_window(images, self.window(tf.shape(images)[-3:-1]), self.size)

    def window(self, size: tf.Tensor) -> tf.Tensor:
        """Return the window f32[4] of an image, given its i32[2] height and width."""
        if self.resize:
            if self.size[0] != self.size[1]:
                raise InputError(f"resize must be 0 for a crop that is not square; got {self.resize} for {self.size}.")
            return windows.center_window(size, self.size[0], self.resize)
        crop = tf.constant(self.size, tf.int32)
        fits = tf.debugging.Assert(
            tf.reduce_all(size >= crop), ["the image is smaller than the crop: height and width", size, "crop", crop]
        )
        with tf.control_dependencies([fits]):
            return tf.cast(tf.concat([(size - crop) // 2, crop], 0), tf.float32)

    def batch(self, images: tf.Tensor) -> tf.Tensor:
        """u8 or f32[B,h,w,3] in [0, 255] -> f32[B,H,W,3] normalized."""
        if tuple(images.shape[1:3]) != tuple(self.size):
            images = self.crop(images) if self.resize else tf.image.resize(images, self.size, antialias=True)
        return image.normalize(images, self.mean, self.std)


@dataclasses.dataclass(frozen=True)
class IdentityTransform:
    """The image as it is stored, for networks that crop and normalize it themselves.

    Attributes:
        size: height and width to which the network crops images, as far as known; for reports.
        resize: length of the shorter side before that crop; for reports.
        exif: rotate JPEGs by their EXIF orientation.
    """

    size: tuple[int, int]
    resize: int = 0
    exif: bool = False

    @property
    def shape(self) -> tuple[int | None, ...]:
        return (None, None, 3)

    @property
    def views(self) -> int:
        return 1

    def decode(self, contents: tf.Tensor, max_pixels: int = codecs.MAX_PIXELS) -> tf.Tensor:
        """Decode one file, string[] -> f32[h,w,3] in [0, 255]."""
        return _decode_whole(contents, self.exif, max_pixels)

    def batch(self, images: tf.Tensor) -> tf.Tensor:
        """Images u8 or f32[B,h,w,3] of one size -> f32[B,h,w,3], unchanged."""
        return tf.cast(images, tf.float32)


@dataclasses.dataclass(frozen=True)
class TenCropTransform:
    """The ten crops of Krizhevsky et al. (2012), section 4.1: corners and center, and the same mirrored.

    Attributes:
        size: height and width of each crop.
        mean: mean of each channel, or of each pixel [H,W,3], in [0, 255].
        std: standard deviation of each channel.
        resize: length of the shorter side before the crops; 0 for no resizing.
        exif: rotate JPEGs by their EXIF orientation.
    """

    size: tuple[int, int]
    mean: Any
    std: Any
    resize: int = 0
    exif: bool = False

    def __post_init__(self) -> None:
        check_size(self.size)
        check_normalization(self.mean, self.std)
        if 0 < self.resize < max(self.size):
            raise InputError(f"resize must be at least the crop, {max(self.size)}, or 0; got {self.resize}.")

    @property
    def shape(self) -> tuple[int | None, ...]:
        return (5, *self.size, 3)

    @property
    def views(self) -> int:
        return 10

    def decode(self, contents: tf.Tensor, max_pixels: int = codecs.MAX_PIXELS) -> tf.Tensor:
        """Decode one file, string[] -> its five crops f32[5,H,W,3] in [0, 255]."""
        pixels = _decode_resized(contents, self.resize, self.exif, max_pixels)
        return windows.five_crops(pixels[None], self.size)[0]

    def batch(self, images: tf.Tensor) -> tf.Tensor:
        """Crops [B,5,H,W,3] or images [B,h,w,3] in [0, 255] -> f32[B,10,H,W,3] normalized, mirrored crops last."""
        if images.shape.rank == 4:
            images = windows.five_crops(_resize_batch(images, self.resize), self.size)
        crops = tf.concat([images, image.mirror(images)], axis=1)
        crops = tf.reshape(crops, [-1, *crops.shape[2:]])
        return tf.reshape(image.normalize(crops, self.mean, self.std), [-1, 10, *self.size, 3])


@dataclasses.dataclass(frozen=True)
class DenseTransform:
    """The whole image with its shorter side resized, for fully convolutional evaluation at one scale (section 3.4).

    Attributes:
        size: height and width of the network's own input, which the positions of the dense scores have.
        mean: mean of each channel in [0, 255].
        std: standard deviation of each channel.
        resize: length of the shorter side, at least 32 pixels.
        exif: rotate JPEGs by their EXIF orientation.
        mirror: show the mirrored image too.
    """

    size: tuple[int, int]
    mean: Any
    std: Any
    resize: int
    exif: bool = False
    mirror: bool = False

    def __post_init__(self) -> None:
        check_size(self.size)
        check_normalization(self.mean, self.std)
        if self.resize < MINIMUM_SCALE:
            raise InputError(f"scales must be at least {MINIMUM_SCALE} pixels; got {self.resize}.")
        if tf.TensorShape(getattr(self.mean, "shape", [3])).rank != 1:
            raise InputError("multi_scale requires a mean of each channel; this network has a mean of each pixel.")

    @property
    def shape(self) -> tuple[int | None, ...]:
        return (None, None, 3)

    @property
    def views(self) -> int:
        return 2 if self.mirror else 1

    def decode(self, contents: tf.Tensor, max_pixels: int = codecs.MAX_PIXELS) -> tf.Tensor:
        """Decode one file, string[] -> the whole image resized, f32[h,w,3] in [0, 255]."""
        return _decode_resized(contents, self.resize, self.exif, max_pixels)

    def batch(self, images: tf.Tensor) -> tf.Tensor:
        """Images [B,h,w,3] of one size in [0, 255] -> f32[B,V,h',w',3] normalized, V = 2 if mirrored, else 1."""
        if None not in images.shape[1:3]:
            images = _resize_batch(images, self.resize)
        images = image.normalize(images, self.mean, self.std)
        return tf.stack([images, image.mirror(images)] if self.mirror else [images], axis=1)


def _decode_whole(contents: tf.Tensor, exif: bool, max_pixels: int) -> tf.Tensor:
    """Decode a whole image: f32[h,w,3]."""
    decode = codecs.decode_upright if exif else codecs.decode
    return tf.cast(decode(contents, max_pixels), tf.float32)


def _decode_resized(contents: tf.Tensor, resize: int, exif: bool, max_pixels: int) -> tf.Tensor:
    """Decode a whole image and resize its shorter side, if `resize` is not 0: f32[h,w,3]."""
    pixels = _decode_whole(contents, exif, max_pixels)
    return image.resize_shorter(pixels, resize) if resize else pixels


def _resize_batch(images: tf.Tensor, resize: int) -> tf.Tensor:
    """Resize the shorter side of images of one size, [B,h,w,3] -> f32[B,h',w',3], if `resize` is not 0."""
    shorter = min(images.shape[1:3])
    if not resize or shorter == resize:
        return tf.cast(images, tf.float32)
    size = [side * resize // shorter for side in images.shape[1:3]]
    return tf.image.resize(images, size, antialias=True)


@dataclasses.dataclass(frozen=True)
class TrainTransform(Augmentations):
    """Random crops of training images, mirroring, and the options of `Augmentations`.

    Attributes:
        size: height and width of the result.
        mean: mean of each channel, or of each pixel [H,W,3], in [0, 255].
        std: standard deviation of each channel.
        crop: "pad", zero padding and a random crop of the original size (section 4.2); "scale", shorter side uniform in
            `scale_range` and a random crop (section 3.4); "inception", random area and aspect ratio; "center", none.
        pad: pixels of padding per side, for "pad".
        scale_range: range of the shorter side, for "scale".
        mirror: mirror half of the images.
        exif: rotate JPEGs by their EXIF orientation.
        antialias: average pixels where a file's window shrinks; off, training is faster and its images noisier.
    """

    size: tuple[int, int]
    mean: Any
    std: Any
    crop: str = "pad"
    pad: int = 4
    scale_range: tuple[int, int] = (256, 480)
    mirror: bool = True
    exif: bool = False
    antialias: bool = False

    def __post_init__(self) -> None:
        check_size(self.size)
        check_normalization(self.mean, self.std)
        check_choice("crop", self.crop, CROPS)
        if self.crop == "scale" and not max(self.size) <= self.scale_range[0] <= self.scale_range[1]:
            raise InputError(
                f"scale_range must increase from at least the crop, {max(self.size)}; got {self.scale_range}."
            )
        if self.size[0] != self.size[1]:
            check_choice("crop for images that are not square", self.crop, ("pad", "inception", "center"))
        if self.pad < 0:
            raise InputError(f"pad must not be negative; got {self.pad}.")
        super().__post_init__()

    @classmethod
    def from_options(cls, options: object, **values: Any) -> TrainTransform:
        """Build the transform from an object that has its options as attributes, such as a configuration.

        Args:
            options: an object with an attribute for each field that is not in `values`.
            **values: the other fields: `size`, `mean`, `std` and `classes`.
        """
        names = [field.name for field in dataclasses.fields(cls) if field.name not in values]
        return cls(**{name: getattr(options, name) for name in names}, **values)

    def window(self, size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return the window i32[4] or f32[4] of a file's image, given its i32[2] height and width."""
        if self.crop == "scale":
            return windows.scale_window(size, self.size[0], self.scale_range, seed)
        if self.crop == "inception":
            return windows.inception_window(size, seed)
        if self.size[0] == self.size[1]:
            return windows.center_window(size, self.size[0], self.size[0])
        return windows.whole_window(size)

    def decode(self, contents: tf.Tensor, seed: tf.Tensor, max_pixels: int = codecs.MAX_PIXELS) -> tf.Tensor:
        """Decode one file, string[] -> its crop f32[H,W,3] in [0, 255], mirrored or not.

        Only what the crop needs is decoded.

        Raises:
            tf.errors.InvalidArgumentError: the file cannot be decoded.
        """
        mirrored = tf.random.stateless_uniform([], tf.add(seed, [0, 1])) < 0.5 if self.mirror else False
        if self.exif:
            pixels = codecs.decode_upright(contents, max_pixels)
            pixels = image.resize_window(pixels, self.window(tf.shape(pixels)[:2], seed), self.size)
            return image.mirror(pixels, mirrored)
        size = codecs.checked_dimensions(contents, max_pixels)
        return codecs.decode_window(
            contents,
            size,
            self.window(size, seed),
            self.size,
            antialias=self.antialias,
            scaled_decoding=True,
            mirrored=mirrored,
        )

    def crop_images(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Crop decoded images of one size, [B,h,w,3] -> [B,H,W,3], each with its own window and mirrored or not."""
        if self.mirror:
            images = image.random_mirror(images, tf.random.fold_in(seed, 1))
        if self.crop in ("scale", "inception"):
            size = tf.constant(list(images.shape[1:3]), tf.int32)
            seeds = tf.random.split(seed, images.shape[0])
            drawn = tf.map_fn(
                lambda seed: tf.cast(self.window(size, seed), tf.float32), seeds, fn_output_signature=tf.float32
            )
            drawn /= tf.cast(tf.tile(size, [2]), tf.float32)
            boxes = tf.concat([drawn[:, :2], drawn[:, :2] + drawn[:, 2:]], 1)
            return tf.image.crop_and_resize(images, boxes, tf.range(images.shape[0]), self.size)
        if tuple(images.shape[1:3]) != tuple(self.size):
            return tf.image.resize(images, self.size, antialias=True)
        return images

    def augment(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Augment and normalize crops; each image has its own draws.

        Args:
            images: u8 or f32[B,H,W,3] in [0, 255].
            seed: i32[2]; each augmentation adds its stream to the second number.

        Returns:
            f32[B,H,W,3] normalized.
        """
        noise = None
        if self.pca_noise:
            noise = image.color_noise(tf.shape(images)[0], self.pca_noise, augmentations.stream_seed(seed, 0))
        if augmentations.active(augmentations.PIXEL, self):
            images = tf.cast(images, tf.float32) + (0.0 if noise is None else noise[:, None, None])
            images, noise = tf.clip_by_value(images, 0, 255), None
            images = augmentations.apply(augmentations.PIXEL, self, images, seed)
        # Normalized before padding, so that the zeros of the padding are the mean.
        images = image.normalize(images, self.mean, self.std, noise)
        if self.crop == "pad" and self.pad:
            images = image.random_crop(images, self.pad, augmentations.stream_seed(seed, 2))
        return augmentations.apply(augmentations.NORMALIZED, self, images, seed)

    def mix(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mix the images of a batch with each other, if `mixup` or `cutmix` is on; see `augmentations.mix`."""
        return augmentations.mix(self, images, labels, seed)


@dataclasses.dataclass(frozen=True)
class WholeImageTransform:
    """Decode and normalize whole images at their own size, for networks that take any size.

    Attributes:
        mean: mean of each RGB channel, in [0, 255].
        std: standard deviation of each channel.
        exif: rotate JPEGs by their EXIF orientation.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    exif: bool = False

    def decode(self, contents: tf.Tensor) -> tf.Tensor:
        """Decode an image file, string[] -> u8[H,W,3]; errors as for `codecs.decode`."""
        return (codecs.decode_upright if self.exif else codecs.decode)(contents)

    def normalize(self, images: tf.Tensor) -> tf.Tensor:
        """Normalize images, u8 or f32[B,H,W,3] -> f32[B,H,W,3]."""
        return image.normalize(images, self.mean, self.std)
