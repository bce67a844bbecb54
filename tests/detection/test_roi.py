"""RoI pooling against loops over every cell, and Detectron2's published example."""

import math

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.detection import roi


def max_pool_by_loops(maps, box, size, stride):
    """Fast R-CNN's rule, cell by cell."""
    height, width, channels = maps.shape
    limit = [height, width, height, width]
    top, left, bottom, right = (math.floor(min(max(v / stride, 0), m) + 0.5) for v, m in zip(box, limit, strict=True))
    out = np.zeros((size, size, channels), "float32")
    tall, wide = max(bottom - top + 1, 1), max(right - left + 1, 1)
    for i in range(size):
        for j in range(size):
            y0, y1 = top + i * tall // size, top + -(-(i + 1) * tall // size)
            x0, x1 = left + j * wide // size, left + -(-(j + 1) * wide // size)
            window = maps[min(y0, height) : min(y1, height), min(x0, width) : min(x1, width)]
            if window.size:
                out[i, j] = window.max((0, 1))
    return out


def align_by_loops(maps, box, size, stride, samples):
    """Mask R-CNN's rule as Detectron2 has it, sample by sample."""
    height, width, _ = maps.shape

    def bilinear(y, x):
        if y < -1 or y > height or x < -1 or x > width:
            return np.zeros(maps.shape[-1])
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
        y0, x0 = int(y), int(x)
        y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
        dy, dx = y - y0, x - x0
        low = maps[y0, x0] * (1 - dx) + maps[y0, x1] * dx
        return low * (1 - dy) + (maps[y1, x0] * (1 - dx) + maps[y1, x1] * dx) * dy

    top, left, bottom, right = (value / stride - 0.5 for value in box)
    out = np.zeros((size, size, maps.shape[-1]))
    for i, j in np.ndindex(size, size):
        for a, b in np.ndindex(samples, samples):
            y = top + (bottom - top) * (i + (a + 0.5) / samples) / size
            x = left + (right - left) * (j + (b + 0.5) / samples) / size
            out[i, j] += bilinear(y, x) / samples**2
    return out


BOXES = np.array(
    [
        [0, 0, 176, 240],  # the whole map
        [35, 18, 120, 201],
        [0, 0, 1, 1],  # one pixel
        [160, 230, 176, 240],  # at the border
        [8, 24, 24, 40],  # halves
        [-50, -70, 30, 500],  # across the border
        [300, 300, 400, 400],  # outside
    ],
    "float32",
)


@pytest.fixture
def maps(random):
    return random.normal(size=(2, 11, 15, 3)).astype("float32")


@pytest.mark.parametrize("size", [2, 7, 14])
@pytest.mark.parametrize("compiled", [False, True])
def test_max_pool_is_exact(maps, size, compiled):
    pooled = tf.function(roi.max_pool, jit_compile=compiled)(
        tf.constant(maps), tf.constant(np.stack([BOXES, BOXES[::-1]])), size, 16
    )
    for image, chosen in enumerate((BOXES, BOXES[::-1])):
        for number, box in enumerate(chosen):
            np.testing.assert_array_equal(pooled[image, number], max_pool_by_loops(maps[image], box, size, 16))


def test_max_pool_of_a_map_of_unknown_size(maps):
    pool = tf.function(lambda maps, box: roi.max_pool(maps, box, 7, 16))
    pool = pool.get_concrete_function(tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([None, None, 4]))
    pooled = pool(tf.constant(maps[:1]), tf.constant(BOXES[None]))
    np.testing.assert_array_equal(pooled, roi.max_pool(tf.constant(maps[:1]), tf.constant(BOXES[None]), 7, 16))


def test_max_pool_refuses_regions_that_exceed_its_tables(random):
    pool = tf.function(lambda maps, box: roi.max_pool(maps, box, 14, 16))
    pool = pool.get_concrete_function(tf.TensorSpec([None, None, None, 1]), tf.TensorSpec([None, None, 4]))
    for cells in (98, 130):
        maps = tf.constant(random.normal(size=(1, 20, cells, 1)).astype("float32"))
        boxes = tf.constant([[[0.0, 0.0, 320.0, 16.0 * cells], [50.0, 300.0, 200.0, 700.0]]])
        if cells == 98:
            np.testing.assert_array_equal(pool(maps, boxes), roi.max_pool(maps, boxes, 14, 16))
        else:
            with pytest.raises(tf.errors.InvalidArgumentError, match="InputError: roi_pooling must be align for"):
                pool(maps, boxes)


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("compiled", [False, True])
def test_align_is_exact(maps, samples, compiled):
    pool = tf.function(lambda maps, box: roi.align(maps, box, 7, 16, samples=samples), jit_compile=compiled)
    pooled = pool(tf.constant(maps), tf.constant(np.stack([BOXES, BOXES[::-1]])))
    for image, chosen in enumerate((BOXES, BOXES[::-1])):
        for number, box in enumerate(chosen):
            expected = align_by_loops(maps[image], box, 7, 16, samples)
            np.testing.assert_allclose(pooled[image, number], expected, atol=2e-5)


def test_align_is_detectron2s_example():
    maps = tf.reshape(tf.range(25, dtype=tf.float32), [1, 5, 5, 1])
    box = tf.constant([[[1.0, 1, 3, 3]]])
    aligned = [[4.5, 5, 5.5, 6], [7, 7.5, 8, 8.5], [9.5, 10, 10.5, 11], [12, 12.5, 13, 13.5]]
    np.testing.assert_allclose(roi.align(maps, box, 4, 1, samples=1)[0, 0, ..., 0], aligned)
    legacy = roi.align(maps, box, 4, 1, samples=1, aligned=False)[0, 0, ..., 0]
    np.testing.assert_allclose(legacy, np.array(aligned) + 3)


@pytest.mark.parametrize("pooling", roi.POOLINGS)
@pytest.mark.parametrize("size", [7, 14])
def test_only_some_bins_are_those_of_the_whole_grid(maps, pooling, size):
    maps, boxes = tf.constant(maps), tf.constant(np.stack([BOXES, BOXES[::-1]]))
    pool = roi.POOLINGS[pooling]
    some = pool(maps, boxes, size, 16, step=2)
    np.testing.assert_allclose(some, pool(maps, boxes, size, 16)[:, :, ::2, ::2], atol=1e-6)


@pytest.mark.parametrize("pooling", roi.POOLINGS)
def test_gradients_reach_the_map(maps, pooling):
    maps, box = tf.constant(maps[:1]), tf.constant(BOXES[None, :2])
    with tf.GradientTape() as tape:
        tape.watch(maps)
        total = tf.reduce_sum(roi.POOLINGS[pooling](maps, box, 3, 16))
    gradient = tape.gradient(total, maps)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(tf.reduce_sum(gradient), 2 * 9 * 3, rtol=1e-5)
