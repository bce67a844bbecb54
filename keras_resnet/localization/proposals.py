"""The proposals of stage 1 for the true class of each training image, on which stage 2 trains."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_resnet import files
from keras_resnet.data.transforms import WholeImageTransform
from keras_resnet.errors import InputError
from keras_resnet.localization.data import pipeline
from keras_resnet.localization.data.examples import Example
from keras_resnet.localization.inference import NO_SCORE, Localizer
from keras_resnet.ops import boxes as box_ops


def collect(
    localizer: Localizer,
    examples: Sequence[Example],
    transform: WholeImageTransform,
    *,
    progress: bool = False,
) -> list[np.ndarray]:
    """Return the proposals of stage 1 for the true class of each image.

    Args:
        localizer: its views and `proposals` say how they are found.
        examples: the images.
        transform: the transform of the images.
        progress: whether to show a progress bar on a terminal.

    Returns:
        For each image f32[P,4] in pixels, best first; P is at most `proposals` of the localizer.
    """
    result = []
    with tqdm(total=len(examples), unit="image", disable=None if progress else True) as bar:
        for index, pixels in pipeline.evaluate(examples, transform):
            found = localizer.proposals(pixels, tf.constant([examples[index].label], tf.int32))
            boxes, scores = found.boxes.numpy()[0], found.scores.numpy()[0]
            result.append(boxes[scores > NO_SCORE])
            bar.update()
    return result


def save(path: str | os.PathLike, proposals: Sequence[np.ndarray]) -> None:
    """Write proposals to an `.npz` file, by rename."""
    buffer = io.BytesIO()
    counts = np.array([len(boxes) for boxes in proposals], "int64")
    np.savez(buffer, counts=counts, boxes=np.concatenate([*proposals, np.zeros((0, 4), "float32")]))
    files.write(path, buffer.getvalue())


def read(path: str | os.PathLike, count: int) -> list[np.ndarray]:
    """Read proposals that `save` wrote.

    Args:
        path: the file.
        count: number of images.

    Raises:
        ValueError: the file cannot be read, or holds the proposals of another number of images.
    """
    try:
        with np.load(path) as content:
            counts, boxes = content["counts"], content["boxes"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"proposals file {os.fspath(path)!r} cannot be read: {error}.") from error
    if len(counts) != count:
        raise InputError(
            f"proposals file {os.fspath(path)!r} must have the proposals of {count} images; it has {len(counts)}."
        )
    return np.split(boxes, np.cumsum(counts)[:-1])


def recall(proposals: Iterable[np.ndarray], examples: Iterable[Example], thresh: float = 0.5) -> float:
    """Return the percentage of the images with boxes of which a proposal has an IoU of at least `thresh` with one."""
    found = [
        len(boxes) > 0 and float(tf.reduce_max(box_ops.iou(tf.cast(boxes, tf.float32), truth))) >= thresh
        for boxes, truth in (
            (boxes, tf.constant(example.boxes, tf.float32))
            for boxes, example in zip(proposals, examples, strict=True)
            if len(example.boxes)
        )
    ]
    return 100 * float(np.mean(found)) if found else 0.0
