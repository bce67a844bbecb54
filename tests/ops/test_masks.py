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


def distance(polygon, row, column):
    """The distance of the center of a pixel from the nearest side of a polygon."""
    center, distances = np.array([column + 0.5, row + 0.5]), []
    for start, end in zip(np.array(polygon), np.roll(polygon, -1, axis=0), strict=True):
        share = np.clip((center - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
        distances.append(np.linalg.norm(start + share * (end - start) - center))
    return min(distances)


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
    """Pixels are those whose centers are inside, but for centers within a third of a pixel of a side."""
    mask = masks.of_polygons([[number for corner in polygon for number in corner]], SIZE)
    clear = [(row, column) for row, column in np.ndindex(SIZE) if distance(polygon, row, column) > 1 / 3]
    assert len(clear) > 150
    assert [mask[place] for place in clear] == [inside(polygon, *place) for place in clear]


def test_a_rectangle_by_hand_and_the_union_of_two():
    mask = masks.of_polygons([[1, 0, 3, 0, 3, 2, 1, 2], [2, 1, 4, 1, 4, 3, 2, 3]], (3, 5))
    assert mask.astype(int).tolist() == [[0, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 0]]


def random_polygons(random, size):
    """One to three polygons, some of them with corners beyond the image, on whole pixels, or crossing themselves."""
    polygons = random.uniform(-40, 0, (random.integers(1, 4), random.integers(3, 12), 2)) + np.array(size[::-1]) / 2
    polygons *= random.choice([0.5, 1.0, 1.5])
    polygons = (polygons, polygons.round(), (2 * polygons).round() / 2)[size[0] % 3]
    return [polygon.ravel().tolist() for polygon in polygons]


@pytest.mark.parametrize("seed", range(4))
def test_random_polygons_and_runs_are_pycocotools(seed):
    """200 masks in all, each as polygons and as runs, compressed or not."""
    coco = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(seed)
    for number in range(50):
        height, width = size = tuple(map(int, random.integers(5, 90, 2)))
        polygons = random_polygons(random, size)
        encoded = coco.merge(coco.frPyObjects(polygons, height, width))
        expected = coco.decode(encoded).astype(bool)
        np.testing.assert_array_equal(masks.ObjectMask.of_coco(polygons, size).draw(), expected)
        # Crowds have runs, which may be compressed; here of the inside, the outside, or of noise.
        mask = (expected, ~expected, random.random(size) < 0.5)[number % 3]
        runs = {"size": list(size), "counts": masks.runs_of(mask).tolist()}
        compressed = coco.frPyObjects(runs, height, width)
        assert compressed == coco.encode(np.asfortranarray(mask.astype("uint8")))
        for segmentation in (runs, compressed):
            np.testing.assert_array_equal(masks.ObjectMask.of_coco(segmentation, size).draw(), mask)


def test_masks_of_a_resized_image_and_their_boxes():
    polygon = masks.ObjectMask.of_polygons([[1, 0, 3, 0, 3, 2, 1, 2]], (3, 5))
    assert polygon.draw((6, 10)).astype(int).tolist() == np.kron(polygon.draw(), np.ones((2, 2), int)).tolist()
    assert polygon.box() == (0, 1, 2, 3)
    pixels = masks.ObjectMask.of_pixels(polygon.draw())
    assert pixels.draw((6, 10)).tolist() == polygon.draw((6, 10)).tolist()
    assert pixels.draw((1, 2)).tolist() == [[True, False]]
    assert pixels.box() == polygon.box()
    assert masks.ObjectMask.of_pixels(np.zeros((2, 3), bool)).box() == (0, 0, 0, 0)


def test_overlaps_are_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(0)
    drawn = [random.random(SIZE) < share for share in (0, 0.1, 0.5, 0.9, 1)]
    drawn += [masks.of_polygons(random_polygons(random, SIZE), SIZE) for _ in range(15)]
    encoded = [coco.encode(np.asfortranarray(mask.astype("uint8"))) for mask in drawn]
    objects = [masks.ObjectMask.of_pixels(mask) for mask in drawn]
    expected = coco.iou(encoded, encoded, [0] * len(encoded))
    np.testing.assert_allclose(masks.pairwise_iou(objects, objects), np.nan_to_num(expected), rtol=1e-15)
    box = masks.ObjectMask.of_box((2, 3, 7, 11), SIZE)
    assert box.draw().sum() == 40
    assert box.box() == (2, 3, 7, 11)


@pytest.mark.parametrize("segmentation", [None, [], [[1, 1, 3, 3]]], ids=["none", "empty", "two corners"])
def test_objects_without_a_mask(segmentation):
    assert masks.ObjectMask.of_coco(segmentation, SIZE) is None


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 2, 3]], "a polygon has 3 coordinates, which must be pairs of finite numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "pairs of finite numbers"),
        ("polygons", "it is 'polygons'"),
        ({"counts": [221]}, "runs must have size and counts"),
        ({"counts": [221], "size": [17, 13]}, "it is of 17x13 pixels, the image of 13x17"),
    ],
)
def test_wrong_segmentations(segmentation, message):
    with pytest.raises(ValueError, match=message):
        masks.ObjectMask.of_coco(segmentation, SIZE)


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
