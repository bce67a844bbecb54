"""Masks of objects, from polygons and from COCO's run-length encoding, drawn as pycocotools draws them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

SUBPIXELS = 5
"""pycocotools draws the sides of polygons on a grid with this many points a pixel."""


@dataclasses.dataclass(frozen=True, eq=False)
class ObjectMask:
    """The mask of an object, as polygons or as runs, which is drawn when it is needed.

    Attributes:
        size: height and width of the image.
        polygons: f64[2n] each, x and y of each corner in turn, in pixels from the top left corner of the image.
        runs: i64[n], the lengths of COCO's run-length encoding; None for polygons.
    """

    size: tuple[int, int]
    polygons: tuple[np.ndarray, ...] = ()
    runs: np.ndarray | None = None

    @classmethod
    def of_polygons(cls, polygons: Iterable[Sequence[float]], size: tuple[int, int]) -> ObjectMask | None:
        """Return the mask of polygons, or None if none of them has three corners.

        Raises:
            ValueError: a polygon has an odd number of coordinates, or one that is not finite.
        """
        arrays = [np.asarray(polygon, "float64").ravel() for polygon in polygons]
        for array in arrays:
            if len(array) % 2 or not np.isfinite(array).all():
                raise ValueError(f"a polygon has {len(array)} coordinates, which must be pairs of finite numbers")
        kept = tuple(array for array in arrays if len(array) >= 6)
        return cls(size, kept) if kept else None

    @classmethod
    def of_pixels(cls, mask: np.ndarray) -> ObjectMask:
        """Return the mask of the pixels that are true in bool[H,W]."""
        return cls((mask.shape[0], mask.shape[1]), runs=runs_of(mask))

    @classmethod
    def of_box(cls, box: Sequence[float] | np.ndarray, size: tuple[int, int]) -> ObjectMask:
        """Return the mask of a box: top, left, bottom and right in pixels."""
        top, left, bottom, right = map(float, box)
        return cls(size, (np.array([left, top, right, top, right, bottom, left, bottom]),))

    @classmethod
    def of_coco(cls, segmentation: Any, size: tuple[int, int]) -> ObjectMask | None:
        """Read the `segmentation` of an object in COCO's format; None if it is empty.

        Args:
            segmentation: a list of polygons, or a dictionary of `size` and `counts`, compressed or not.
            size: height and width of the image.

        Raises:
            ValueError: it is neither, or of an image of another size.
        """
        if not segmentation:
            return None
        if not isinstance(segmentation, Mapping):
            if not isinstance(segmentation, Sequence) or isinstance(segmentation, str):
                raise ValueError(f"it is {str(segmentation)[:40]!r}")
            return cls.of_polygons(segmentation, size)
        if not segmentation.keys() >= {"size", "counts"}:
            raise ValueError("runs must have size and counts")
        height, width = map(int, segmentation["size"])
        if (height, width) != tuple(size):
            raise ValueError(f"it is of {height}x{width} pixels, the image of {size[0]}x{size[1]}")
        return cls(size, runs=_lengths(segmentation["counts"], size))

    def draw(self, size: tuple[int, int] | None = None) -> np.ndarray:
        """Draw the mask for the image, or for the image resized to `size`: bool[H,W].

        Polygons are scaled; pixels of runs are those at the centers of the resized image's.
        """
        if size is None or tuple(size) == tuple(self.size):
            return of_polygons(self.polygons, self.size) if self.runs is None else of_runs(self.runs, self.size)
        if self.runs is None:
            scale = [size[1] / self.size[1], size[0] / self.size[0]]
            return of_polygons([polygon * np.tile(scale, len(polygon) // 2) for polygon in self.polygons], size)
        mask = of_runs(self.runs, self.size)
        rows, columns = (
            np.int64((np.arange(new) + 0.5) * (old / new)) for new, old in zip(size, self.size, strict=True)
        )
        return mask[np.ix_(rows, columns)]

    def encoded(self) -> ObjectMask:
        """Return the same mask as runs."""
        return self if self.runs is not None else ObjectMask.of_pixels(self.draw())

    def to_coco(self) -> list[list[float]] | dict[str, Any]:
        """Return the `segmentation` of COCO's format: polygons, or runs that are not compressed."""
        if self.runs is None:
            return [polygon.tolist() for polygon in self.polygons]
        return {"size": list(self.size), "counts": self.runs.tolist()}

    def box(self) -> tuple[float, float, float, float]:
        """Return the smallest box around it: top, left, bottom and right in pixels; zeros for an empty mask."""
        if self.runs is None:
            corners = np.concatenate(self.polygons).reshape(-1, 2)
            (left, top), (right, bottom) = corners.min(0), corners.max(0)
            return float(top), float(left), float(bottom), float(right)
        mask = self.draw()
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return 0.0, 0.0, 0.0, 0.0
        return float(rows[0]), float(columns[0]), float(rows[-1] + 1), float(columns[-1] + 1)


def of_polygons(polygons: Iterable[Sequence[float] | np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Return the mask of the union of polygons, exactly as pycocotools draws it.

    A pixel is inside if its center is, up to a fifth of a pixel: sides are lines on a grid of fifths. A polygon may
    intersect itself; its inside is where a line to the top crosses its sides an odd number of times.

    Args:
        polygons: x and y of each corner in turn, in pixels from the top left corner of the image.
        size: height and width of the image.

    Returns:
        bool[H,W].
    """
    mask = np.zeros(size, bool)
    for polygon in polygons:
        columns, rows = _crossings(np.asarray(polygon, "float64").reshape(-1, 2), size)
        if not len(columns):
            continue
        first, last = int(columns.min()), int(columns.max()) + 1
        # Column by column: the pixels after an odd number of crossings.
        crossings = np.bincount((columns - first) * size[0] + rows, minlength=(last - first) * size[0] + 1)
        odd = np.cumsum(crossings[: (last - first) * size[0]], dtype="uint8") % 2 == 1
        mask[:, first:last] |= odd.reshape(last - first, size[0]).T
    return mask


def _crossings(corners: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where the sides of a polygon, corners f64[n,2], cross columns of pixels: column and first row below, i64[m]."""
    starts = np.int64(SUBPIXELS * corners + 0.5)
    ends = np.roll(starts, -1, axis=0)
    extent = np.abs(ends - starts)
    is_flat = extent[:, 0] >= extent[:, 1]
    length = extent.max(1)
    # Each side is drawn in the direction of its longer extent, so that it is the same both ways.
    along = np.where(is_flat[:, None], starts, starts[:, ::-1])
    until = np.where(is_flat[:, None], ends, ends[:, ::-1])
    is_reversed = along[:, 0] > until[:, 0]
    low, high = (np.where(is_reversed[:, None], *pair) for pair in ((until, along), (along, until)))
    slope = (high[:, 1] - low[:, 1]) / np.maximum(length, 1)
    side = np.repeat(np.arange(len(length)), length + 1)
    step = np.arange(len(side)) - np.repeat(np.cumsum(length + 1) - (length + 1), length + 1)
    step = np.where(is_reversed[side], length[side] - step, step)
    major = low[side, 0] + step
    minor = np.int64(low[side, 1] + slope[side] * step + 0.5)
    x, y = np.where(is_flat[side], major, minor), np.where(is_flat[side], minor, major)
    # Between two points of different x, the line crosses the center of a column if the left one is its middle point.
    left = np.minimum(x[1:], x[:-1])
    column, middle = np.divmod(left - SUBPIXELS // 2, SUBPIXELS)
    crosses = (x[1:] != x[:-1]) & (middle == 0) & (column >= 0) & (column < size[1])
    row = -((SUBPIXELS // 2 - np.minimum(y[1:], y[:-1])) // SUBPIXELS)
    return column[crosses], np.clip(row[crosses], 0, size[0])


def of_runs(counts: str | bytes | Sequence[int] | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the mask of COCO's run-length encoding: column by column, pixels outside and inside in turn.

    Args:
        counts: the lengths of the runs, the first one outside; or their compressed form as text.
        size: height and width of the image.

    Returns:
        bool[H,W].

    Raises:
        ValueError: the runs are not as long as the image.
    """
    lengths = _lengths(counts, size)
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(size[1], size[0]).T


def runs_of(mask: np.ndarray) -> np.ndarray:
    """Return the lengths of the runs of a mask bool[H,W], the inverse of `of_runs`: i64[n]."""
    flat = np.concatenate([[False], mask.T.ravel(), [True]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    if flat[-2]:  # the last run is inside, and ends where the mask does
        edges = np.append(edges, mask.size)
    return np.diff(edges, prepend=0)


def pairwise_iou(first: Sequence[ObjectMask], second: Sequence[ObjectMask]) -> np.ndarray:
    """Return the intersection over union of pairs of masks of one image: f64[N,M]; 0 for two empty masks."""
    profiles = [_Profile(mask) for mask in second]
    ious = np.zeros((len(first), len(second)))
    for row, mask in enumerate(map(_Profile, first)):
        for column, other in enumerate(profiles):
            shared = mask.shared(other)
            ious[row, column] = shared / max(mask.area + other.area - shared, 1.0)
    return ious


class _Profile:
    """The number of a mask's pixels before each place in its runs, from which areas that masks share are computed."""

    def __init__(self, mask: ObjectMask):
        runs = mask.encoded().runs
        assert runs is not None
        self.places = np.append(0, np.cumsum(runs))
        self.counts = np.append(0, np.cumsum(np.where(np.arange(len(runs)) % 2, runs, 0)))
        self.area = float(self.counts[-1])

    def shared(self, other: _Profile) -> float:
        """The number of pixels in both masks."""
        before = np.interp(self.places, other.places, other.counts)
        return float(np.sum(np.diff(before)[1::2]))


def _lengths(counts: str | bytes | Sequence[int] | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The lengths of runs, i64[n], which must be as long as the image."""
    if isinstance(counts, (str, bytes)):
        counts = _decompressed(counts if isinstance(counts, str) else counts.decode())
    lengths = np.asarray(counts, "int64")
    if lengths.sum() != size[0] * size[1] or lengths.min(initial=0) < 0:
        raise ValueError(f"the runs have {int(lengths.sum())} pixels, the image {size[0]}x{size[1]}")
    return lengths


def _decompressed(text: str) -> list[int]:
    """The lengths of runs in COCO's compressed form.

    Each number is written with 5 bits a character, low bits first; 32 marks that more follow, 16 in the last one the
    sign. From the third number on, it is the difference to the number two before.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value, shift = 0, 0
    return counts
