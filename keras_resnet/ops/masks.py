"""Masks of objects, from polygons and from COCO's run-length encoding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def of_polygons(polygons: Iterable[Sequence[float]], size: tuple[int, int]) -> np.ndarray:
    """Return the mask of the union of polygons: the pixels whose centers are inside one of them.

    Args:
        polygons: x and y of each corner in turn, in pixels from the top left corner of the image. A polygon may
            intersect itself; its inside is where a ray to the right crosses its sides an odd number of times.
        size: height and width of the image.

    Returns:
        bool[H,W].
    """
    mask = np.zeros(size, bool)
    for polygon in polygons:
        mask |= _of_polygon(np.asarray(polygon, "float64").reshape(-1, 2), size)
    return mask


def _of_polygon(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask of a polygon, corners f64[n,2] of x and y: the parity of the sides to the left of each center."""
    height, width = size
    toggles = np.zeros((height, width + 1), bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        low, high = min(y0, y1), max(y0, y1)
        # Centers row + 1/2 with low <= row + 1/2 < high.
        rows = np.arange(max(int(np.ceil(low - 0.5)), 0), min(int(np.ceil(high - 0.5)), height))
        x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        # The first column whose center is not to the left of the crossing.
        columns = np.clip(np.ceil(x - 0.5), 0, width).astype(int)
        toggles[rows, columns] ^= True
    return np.logical_xor.accumulate(toggles[:, :width], axis=1)


def of_runs(counts: str | bytes | Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Return the mask of COCO's run-length encoding: column by column, pixels outside and inside in turn.

    Args:
        counts: the lengths of the runs, the first one outside; or their compressed form as text.
        size: height and width of the image.

    Returns:
        bool[H,W].

    Raises:
        ValueError: the runs are not as long as the image.
    """
    if isinstance(counts, (str, bytes)):
        counts = _decompressed(counts if isinstance(counts, str) else counts.decode())
    lengths = np.asarray(counts, "int64")
    if lengths.sum() != size[0] * size[1] or lengths.min(initial=0) < 0:
        raise ValueError(f"the runs have {int(lengths.sum())} pixels, the image {size[0]}x{size[1]}")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(size[1], size[0]).T


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
