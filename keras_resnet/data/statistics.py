"""Mean and standard deviation of a data set, computed once with a progress bar and kept in the run's folder."""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from keras_resnet.data import pipeline
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.transforms import EvalTransform
from keras_resnet.ops.codecs import MAX_PIXELS


def pixel_statistics(
    dataset: Dataset,
    view: EvalTransform,
    split: str = "train",
    batch_size: int = 256,
    progress: bool = True,
    broken: pipeline.BrokenFiles | None = None,
    max_pixels: int = MAX_PIXELS,
    threads: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean of each pixel over a split, and the standard deviation of each channel.

    Args:
        dataset: where the images come from.
        view: how images of other sizes come to one size; its mean and std are not used.
        split: which examples.
        batch_size: images read at a time.
        broken: counter of files that cannot be decoded and are left out; without, the first one is an error.
        progress: whether to show a progress bar, on a terminal.
        max_pixels: larger images are refused.
        threads: of the pipeline; 0 for TensorFlow's own.

    Returns:
        f64[H,W,3], the mean of each pixel, whose own mean over H and W is that of each channel, and f64[3], both in
        [0, 255].
    """
    plain = EvalTransform.unnormalized(view)
    total = np.zeros((*view.size, 3))
    squares = np.zeros(3)
    count = 0
    bar = tqdm(total=dataset.count(split), unit="image", desc="mean", disable=None if progress else True)
    with bar:
        options = {"broken": broken, "max_pixels": max_pixels, "threads": threads}
        for images, labels in pipeline.evaluate(dataset, batch_size, plain, split=split, **options):
            images = images.numpy().astype("float64")
            total += images.sum(0)
            squares += np.square(images).sum((0, 1, 2))
            count += len(labels)
            bar.update(len(labels))
    mean = total / count
    channel_mean = mean.mean((0, 1))
    variance = squares / (count * mean.shape[0] * mean.shape[1]) - channel_mean**2
    return mean, np.sqrt(np.maximum(variance, 0))
