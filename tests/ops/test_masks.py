"""Masks of polygons and runs, against loops over pixels and pycocotools."""

import numpy as np
import pytest

from keras_resnet.ops import masks

SIZE = (13, 17)


def inside(polygon, row, column):
    """Whether the center of a pixel is in a polygon: a ray to the left crosses its sides an odd number of times."""
    x, y, odd = column + 0.5, row + 0.5, False
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if (y0 <= y < y1 or y1 <= y < y0) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
            odd = not odd
    return odd


@pytest.mark.parametrize(
    "polygon",
    [
        [(2, 3), (10, 3), (10, 8), (2, 8)],
        [(-3.5, -2), (30, 5.25), (4, 40)],
        [(1, 1), (12, 1), (1, 9), (12, 9)],
        [(8.3, 0.2), (16.9, 6.6), (8.1, 12.7), (0.4, 6.1)],
    ],
    ids=["rectangle", "beyond the image", "crossing itself", "diamond"],
)
def test_polygons(polygon):
    expected = [[inside(polygon, row, column) for column in range(SIZE[1])] for row in range(SIZE[0])]
    flat = [number for corner in polygon for number in corner]
    np.testing.assert_array_equal(masks.of_polygons([flat], SIZE), expected)


def test_a_rectangle_by_hand_and_the_union_of_two():
    mask = masks.of_polygons([[1, 0, 3, 0, 3, 2, 1, 2], [2, 1, 4, 1, 4, 3, 2, 3]], (3, 5))
    assert mask.astype(int).tolist() == [[0, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 0]]


def test_runs_go_down_the_columns():
    assert masks.of_runs([1, 2, 2, 1], (2, 3)).astype(int).tolist() == [[0, 1, 0], [1, 0, 1]]
    with pytest.raises(ValueError, match="the runs have 5 pixels, the image 2x3"):
        masks.of_runs([1, 2, 2], (2, 3))


@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_compressed_runs_are_pycocotools(share):
    coco = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(0).random((70, 90)) < share
    mask[:, 20:70] = mask[:1, 20:70]  # long runs
    encoded = coco.encode(np.asfortranarray(mask.astype("uint8")))
    np.testing.assert_array_equal(masks.of_runs(encoded["counts"], (70, 90)), mask)
    np.testing.assert_array_equal(masks.of_runs(encoded["counts"].decode(), (70, 90)), mask)
