"""Random crops that keep a box."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.localization.data.transforms import TrainTransform

MEAN, STD = (10.0, 20.0, 30.0), (2.0, 4.0, 5.0)
BOX = np.array([[30, 60, 50, 90], [0, 0, 0, 0]], "float32")


def painted(size, box):
    """An image whose first channel is 200 inside a box and 100 elsewhere."""
    pixels = np.full((*size, 3), 100, "uint8")
    top, left, bottom, right = map(int, box)
    pixels[top:bottom, left:right] = 200
    return tf.constant(pixels)


@functools.cache
def traced(transform):
    return tf.function(lambda pixels, boxes, seed: transform(pixels, boxes, seed))


def apply(transform, pixels, boxes, seed):
    crop, kept = traced(transform)(pixels, tf.constant(boxes, tf.float32), tf.constant([seed, 1]))
    return crop.numpy() * np.float32(STD) + np.float32(MEAN), kept.numpy()


@pytest.mark.parametrize("scale_range", [(32, 80), (24, 32), (200, 200)])
def test_the_box_follows_its_pixels(scale_range):
    """Also where the crop is larger than the image (24), and where windows rarely meet the box (200)."""
    transform = TrainTransform(MEAN, STD, crop_size=32, scale_range=scale_range)
    pixels, _mirrored = painted((80, 120), BOX[0]), 0
    for seed in range(30):
        crop, (box, padding) = apply(transform, pixels, BOX, seed)
        assert not padding.any()
        top, left, bottom, right = box
        assert 0 <= top < bottom <= 32
        assert 0 <= left < right <= 32
        y, x = np.mgrid[:32, :32] + 0.5
        inside = np.minimum(np.minimum(y - top, bottom - y), np.minimum(x - left, right - x))  # distance to the border
        assert np.all(crop[inside > 2, 0] > 190)
        assert np.all(crop[inside < -2, 0] < 110)


def test_a_crop_keeps_the_share_of_the_box():
    transform = TrainTransform(MEAN, STD, crop_size=32, scale_range=(60, 60), min_coverage=0.5, mirror=False)
    scale = 43 / 32  # pixels of the image in one of the crop, whose window has a side of 32 * 80 / 60, rounded
    areas = [
        np.prod((box[2:] - box[:2]) * scale)
        for box in (apply(transform, painted((80, 120), BOX[0]), BOX, seed)[1][0] for seed in range(40))
    ]
    assert min(areas) >= 0.5 * 600 - 1
    assert max(areas) > 590


def test_boxes_that_the_crop_cuts_are_dropped():
    """Of two boxes far apart, a crop keeps one."""
    boxes = np.array([[0, 0, 20, 20], [60, 100, 80, 120]], "float32")
    transform = TrainTransform(MEAN, STD, crop_size=32, scale_range=(80, 80))
    kept = np.array([apply(transform, painted((80, 120), boxes[0]), boxes, seed)[1].any(1) for seed in range(20)])
    assert (kept.sum(1) == 1).all()
    assert kept.any(0).all()


def test_outside_the_image_is_the_mean():
    transform = TrainTransform(MEAN, STD, crop_size=32, scale_range=(16, 16), mirror=False)
    crop, boxes = transform(painted((40, 40), (0, 0, 40, 40)), tf.constant([[0.0, 0, 40, 40]]), tf.constant([3, 4]))
    inside = crop.numpy()[..., 0] != 0
    top, left, bottom, right = boxes.numpy()[0]
    assert inside.sum() == 16 * 16 == round(float((bottom - top) * (right - left)))
    assert inside[round(float(top)) : round(float(bottom)), round(float(left)) : round(float(right))].all()


def test_mirroring_is_half_and_follows_the_seed():
    """The box is at the left of an image that the crop contains whole."""
    transform = TrainTransform(MEAN, STD, crop_size=32, scale_range=(32, 32))
    box = np.array([[0, 0, 40, 10]], "float32")
    lefts = [apply(transform, painted((40, 40), box[0]), box, seed)[1][0, 1] for seed in range(40)]
    assert 8 < sum(left > 0 for left in lefts) < 32
    assert set(lefts) == {0, 24}
    assert lefts[:5] == [apply(transform, painted((40, 40), box[0]), box, seed)[1][0, 1] for seed in range(5)]


def test_an_image_without_a_box_is_cropped_too():
    transform = TrainTransform(MEAN, STD, crop_size=32, scale_range=(32, 80), pca_noise=0.1)
    crop, boxes = apply(transform, painted((80, 120), BOX[0]), np.zeros((2, 4)), 0)
    assert crop.shape == (32, 32, 3)
    assert not boxes.any()
