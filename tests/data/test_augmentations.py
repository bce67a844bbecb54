"""The table of augmentations."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from keras_resnet.data import augmentations
from keras_resnet.data.augmentations import Augmentations


def test_every_augmentation_has_an_option_and_a_stream_of_its_own():
    table = augmentations.PIXEL + augmentations.NORMALIZED
    options = {field.name for field in dataclasses.fields(Augmentations)}
    assert {augmentation.option for augmentation in table} | set(augmentations.MIXING) <= options
    streams = [0, 2, *(augmentation.stream for augmentation in table)]  # 0 and 2 are those of noise and of the crop
    assert len(set(streams)) == len(streams)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rand_augment": 2.0}, "rand_augment must be from 0 to 1; got 2.0"),
        ({"random_erase_prob": -0.1}, "random_erase_prob must be from 0 to 1; got -0.1"),
        ({"pca_noise": -1.0}, "pca_noise must not be negative; got -1.0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentations(**options)


OPTIONS = Augmentations(trivial_augment=True)


def trivial_by_pillow(name, picture, level, sign):
    """An operation of TrivialAugment's Wide space as the code of the paper calls Pillow."""
    share = level / 30
    affine = lambda *matrix: picture.transform(picture.size, Image.Transform.AFFINE, matrix)  # noqa: E731
    enhance = lambda kind: kind(picture).enhance(1 + sign * 0.99 * share)  # noqa: E731
    return {
        "identity": lambda: picture,
        "shear_x": lambda: affine(1, sign * 0.99 * share, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, sign * 0.99 * share, 1, 0),
        "translate_x": lambda: affine(1, 0, sign * int(32 * share), 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, sign * int(32 * share)),
        "rotate": lambda: picture.rotate(sign * 135 * share),
        "brightness": lambda: enhance(ImageEnhance.Brightness),
        "color": lambda: enhance(ImageEnhance.Color),
        "contrast": lambda: enhance(ImageEnhance.Contrast),
        "sharpness": lambda: enhance(ImageEnhance.Sharpness),
        "posterize": lambda: ImageOps.posterize(picture, 8 - round(6 * share)),
        "solarize": lambda: ImageOps.solarize(picture, 255 - 8.5 * level),
        "auto_contrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
    }[name]()


def test_trivial_augment_is_one_operation_of_pillow_on_each_image(random):
    """Each result is one operation at one magnitude, equal to the bit; all operations occur, and seeds decide."""
    pixels = [random.integers(low, high, (36, 41, 3)).astype("uint8") for low, high in ((20, 230), (0, 256))]
    expected = [collections.defaultdict(set) for _ in pixels]
    for source, results in zip(pixels, expected, strict=True):
        for name, level, sign in itertools.product(augmentations.TRIVIAL_OPERATIONS, range(31), (1, -1)):
            results[np.asarray(trivial_by_pillow(name, Image.fromarray(source), level, sign)).tobytes()].add(name)
    images = tf.constant(np.repeat(pixels, 100, 0), tf.float32)
    augment = tf.function(lambda images, seed: augmentations.apply(augmentations.PIXEL, OPTIONS, images, seed))
    augmented = augment(images, tf.constant([3, 4])).numpy()
    names = [expected[number // 100][image.astype("uint8").tobytes()] for number, image in enumerate(augmented)]
    assert all(names)
    assert set().union(*names) == set(augmentations.TRIVIAL_OPERATIONS)
    np.testing.assert_array_equal(augmented, augment(images, tf.constant([3, 4])))
    assert np.any(augmented != augment(images, tf.constant([3, 5])))
