"""Random scales and crops: images and labels have one geometry, labels are never mixed, padding is ignored."""

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.segmentation.data import transforms
from keras_resnet.segmentation.data.transforms import TrainTransform
from tests.segmentation.sets import COLORS, scene

MEAN, STD = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)


def transform(**options):
    return TrainTransform(MEAN, STD, **{"crop_size": (40, 48), **options})


def colors_of(label):
    """The normalized colors of labels."""
    return (COLORS[label].astype("float32") - np.float32(MEAN)) / np.float32(STD)


def seeds(count):
    return [tf.constant([7, number]) for number in range(count)]


def painted(number, size=(30, 50)):
    """A `scene` of three classes without labels to ignore."""
    return np.where(scene(number, size)[1] == 255, 0, scene(number, size)[1]).astype("uint8")


@pytest.mark.parametrize("size", [(30, 50), (90, 61)])
def test_an_image_painted_with_its_labels_still_is(size):
    label = painted(0, size)
    interior, total = 0, 0
    for seed in seeds(20):
        crop, labels = (value.numpy() for value in transform(scale_range=(0.5, 2.0))(COLORS[label], label, seed))
        inside = labels != 255
        np.testing.assert_array_equal(crop[~inside], 0)  # the mean
        nearest = np.abs(crop[..., None, :] - colors_of(np.arange(3))).sum(-1).argmin(-1)
        # Interpolation moves edges between colors by less than a pixel of either image.
        interior += (nearest == labels)[inside].sum()
        total += inside.sum()
    assert interior / total > 0.97
    assert total < 20 * 40 * 48  # some are padded


def test_at_scale_1_pixels_and_labels_are_cut_out(random):
    pixels, label = (
        random.integers(0, 256, (60, 70, 3)).astype("uint8"),
        random.integers(0, 9, (60, 70)).astype("uint8"),
    )
    found = set()
    for seed in seeds(12):
        crop, labels = transform(scale_range=(1.0, 1.0))(pixels, label, seed)
        crop = np.rint(crop.numpy() * np.float32(STD) + np.float32(MEAN))
        places = [
            (top, left, step)
            for top in range(21)
            for left in range(23)
            for step in (1, -1)
            if np.array_equal(label[top : top + 40, left : left + 48][:, ::step], labels)
        ]
        ((top, left, step),) = places
        np.testing.assert_array_equal(crop, pixels[top : top + 40, left : left + 48][:, ::step])
        found.add(places[0])
    assert len(found) == 12
    assert {step for _, _, step in found} == {1, -1}


@pytest.mark.parametrize("scaled", [(15, 25), (60, 100), (45, 37)])
def test_labels_are_nearest_neighbors_on_the_grid_of_pixels(scaled):
    """Resized coordinates, in an image, tell where each pixel was taken; the label comes from the pixel there."""
    rows, columns = np.mgrid[:30, :50]
    where = np.stack([rows, columns, np.zeros_like(rows)], -1).astype("uint8")
    size, offset = tf.constant(scaled), tf.constant([4, 3])
    crop, inside = transforms.resize_pixels(where, size, offset, (8, 9))
    assert inside.numpy().all()
    row_labels = transforms.resize_label(rows.astype("uint8"), size, offset, (8, 9)).numpy()
    column_labels = transforms.resize_label(columns.astype("uint8"), size, offset, (8, 9)).numpy()
    assert np.abs(crop[..., 0] - row_labels).max() <= 0.5 + 1e-3
    assert np.abs(crop[..., 1] - column_labels).max() <= 0.5 + 1e-3


def test_labels_are_not_mixed():
    label = np.uint8([[0, 9]])
    labels = transforms.resize_label(label, tf.constant([3, 8]), tf.constant([0, 0]), (4, 10)).numpy()
    assert labels.tolist() == [[0] * 4 + [9] * 4 + [255] * 2] * 3 + [[255] * 10]


def test_padding_is_at_the_bottom_and_right():
    label = painted(0)
    crop, labels = transform(scale_range=(0.5, 0.5), mirror=False)(COLORS[label], label, seeds(1)[0])
    inside = np.zeros((40, 48), bool)
    inside[:15, :25] = True
    np.testing.assert_array_equal(labels.numpy() != 255, inside)
    np.testing.assert_array_equal(crop.numpy()[~inside], 0)


def test_the_base_size_is_the_shorter_side():
    label = painted(0)
    labels = transform(scale_range=(1.0, 1.0), base_size=12, mirror=False)(COLORS[label], label, seeds(1)[0])[1]
    assert (labels.numpy() != 255).sum() == 12 * 20


def test_scales_are_uniform():
    label = np.zeros((40, 40), "uint8")
    apply = transform(crop_size=(90, 90), mirror=False)
    sides = [np.sum(apply(COLORS[label], label, seed)[1].numpy()[:, 0] != 255) for seed in seeds(60)]
    assert 20 <= min(sides) < 26
    assert 74 < max(sides) <= 80
    assert 44 < np.mean(sides) < 56


def test_noise_is_one_color_an_image():
    label = np.zeros((40, 48), "uint8")
    options = {"scale_range": (1.0, 1.0)}
    plain, _ = transform(**options)(COLORS[label], label, seeds(1)[0])
    noisy, _ = transform(**options, pca_noise=1.0)(COLORS[label], label, seeds(1)[0])
    difference = (noisy - plain).numpy().reshape(-1, 3)
    assert np.abs(difference).min(0).max() > 0.01
    assert np.ptp(difference, axis=0).max() < 1e-4
