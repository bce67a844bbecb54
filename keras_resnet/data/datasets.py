"""Data sets by name: their facts, and their examples as arrays."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from keras_resnet.errors import InputError, check_choice


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a data set before an image is read.

    Attributes:
        name: the data set.
        class_names: names of the classes in the order of the labels.
        image_size: height and width in pixels of every image.
        splits: number of examples of each split.
        mean: mean of each RGB channel over the training split, in [0, 255].
        std: standard deviation of each channel.
    """

    name: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    splits: dict[str, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_dict(cls, values: dict) -> Facts:
        """Rebuild facts from JSON's types."""
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set: `facts`, and `arrays(split)` -> images u8[N,H,W,3] and labels i32[N]."""

    facts: Facts
    read: Callable[[str], tuple[np.ndarray, np.ndarray]]

    def arrays(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return all images u8[N,H,W,3] and labels i32[N] of a split."""
        check_choice("split", split, self.facts.splits)
        return self.read(split)


# Published per-channel statistics of the training split, on the [0, 255] scale.
STATISTICS = {
    "cifar10": ((125.307, 122.950, 113.865), (62.993, 62.089, 66.705)),
    "cifar100": ((129.304, 124.070, 112.434), (68.170, 65.392, 70.418)),
}


def load(name: str, data_dir: str | None = None, download: bool = False) -> Dataset:
    """Find a data set by name.

    Args:
        name: "digits" (scikit-learn's 1,797 scanned digits, embedded) or a set of tensorflow-datasets.
        data_dir: folder of prepared tensorflow-datasets; by default theirs.
        download: download and prepare the set where it is missing.

    Returns:
        A `Dataset`.

    Raises:
        ValueError: no such data set, or it is not prepared and `download` is False.
    """
    return _digits() if name == "digits" else _tensorflow_datasets(name, data_dir, download)


@functools.cache
def _digits() -> Dataset:
    """scikit-learn's digits, 8x8 grey, enlarged to 32x32 RGB; every third one is held out for testing."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.uint8(np.round(digits.images * (255 / 16)))
    large = np.stack([np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)) for image in grey])
    images = np.repeat(large[..., None], 3, axis=-1)
    labels = digits.target.astype("int32")
    held_out = np.arange(len(labels)) % 3 == 2
    arrays = {"train": (images[~held_out], labels[~held_out]), "test": (images[held_out], labels[held_out])}
    pixels = arrays["train"][0][..., 0].astype("float64")
    return Dataset(
        Facts(
            "digits",
            tuple(map(str, digits.target_names)),
            (32, 32),
            {split: len(value[1]) for split, value in arrays.items()},
            (float(pixels.mean()),) * 3,
            (float(pixels.std()),) * 3,
        ),
        arrays.__getitem__,
    )


def _tensorflow_datasets(name: str, data_dir: str | None, download: bool) -> Dataset:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise InputError(f"dataset must be 'digits' or a name of tensorflow-datasets; got {name!r}.") from error
    if download:
        builder.download_and_prepare()
    features = builder.info.features
    if not builder.info.splits:
        raise InputError(f"dataset {name!r} is not prepared in {builder.data_dir}; set download, or data_dir.")
    if not {"image", "label"} <= set(features or {}) or features["image"].shape[0] is None:
        raise InputError(f"dataset must have images of one size and labels; {name!r} has {features}.")

    def read(split):
        images, labels = [], []
        for example in tfds.as_numpy(builder.as_dataset(split=split)):
            images.append(example["image"])
            labels.append(example["label"])
        images = np.stack(images)
        if images.shape[-1] == 1:
            images = np.repeat(images, 3, axis=-1)
        return images, np.asarray(labels, "int32")

    read = functools.cache(read)
    if name in STATISTICS:
        mean, std = STATISTICS[name]
    else:
        pixels = read("train")[0].astype("float32")
        mean, std = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
    return Dataset(
        Facts(
            name,
            tuple(features["label"].names),
            tuple(features["image"].shape[:2]),
            {split: info.num_examples for split, info in builder.info.splits.items()},
            tuple(map(float, mean)),
            tuple(map(float, std)),
        ),
        read,
    )
