"""Mean and standard deviation of a data set's pixels."""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from keras_resnet.data import pipeline
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.transforms import EvalTransform, Transform
from keras_resnet.ops.codecs import MAX_PIXELS


def pixel_statistics(
    dataset: Dataset,
    transform: Transform,
    split: str = "train",
    batch_size: int = 256,
    progress: bool = True,
    broken: pipeline.BrokenFiles | None = None,
    max_pixels: int = MAX_PIXELS,
    threads: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean of each pixel over a split, and the standard deviation of each channel.

    Args:
        dataset: the images.
        transform: how images of different sizes are cropped to one size; its mean and std are not used.
        split: split of the data set, or a part of one.
        batch_size: images read at a time.
        progress: whether to show a progress bar, on a terminal.
        broken: counter of files that cannot be decoded, which are then left out; by default they are an error.
        max_pixels: larger images are refused.
        threads: threads of the input pipeline; 0 lets TensorFlow choose.

    Returns:
        f64[H,W,3], the mean of each pixel, and f64[3], the standard deviation of each channel, both in [0, 255]. The
        mean of the former over H and W is the mean of each channel.
    """
    plain = EvalTransform.unnormalized(transform)
    total = np.zeros((*transform.size, 3))
    squares = np.zeros(3)
    count = 0
    bar = tqdm(total=dataset.count(split), unit="image", desc="mean", disable=None if progress else True)
    with bar:
        batches = pipeline.evaluate(
            dataset, batch_size, plain, split=split, broken=broken, max_pixels=max_pixels, threads=threads
        )
        for images, labels in batches:
            images = images.numpy().astype("float64")
            total += images.sum(0)
            squares += np.square(images).sum((0, 1, 2))
            count += len(labels)
            bar.update(len(labels))
    mean = total / count
    channel_mean = mean.mean((0, 1))
    variance = squares / (count * mean.shape[0] * mean.shape[1]) - channel_mean**2
    return mean, np.sqrt(np.maximum(variance, 0))
