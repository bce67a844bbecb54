"""Copy data sets into ArrayRecord shards, in the format of tensorflow-datasets: a few large files instead of millions.

    prepare("folder:photos", "prepared/photos")
    sources.load("tfds:prepared/photos")

The shards contain the encoded images as they are. Broken images are left out and listed in `broken.txt`; `SHA256SUMS`
has the checksums. A finished shard is not written again when an interrupted copy is repeated; the data set cannot be
opened before it is complete.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_resnet import files
from keras_resnet.data import sources
from keras_resnet.data.dataset import Dataset, Files, Images, Records, Stream, StreamReader
from keras_resnet.errors import InputError, listed
from keras_resnet.ops import codecs

PLAN = "prepare.json"
"""File that says what an incomplete folder is being made of."""

CHUNK = 64
"""Records that are read at once."""

SAMPLE = 256
"""Images whose mean size determines the number of shards."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """A finished shard.

    Attributes:
        count: number of images.
        size: bytes of the file.
        sha256: its digest.
        broken: names of the images that were left out.
    """

    count: int
    size: int
    sha256: str
    broken: list[str]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What was written.

    Attributes:
        path: the folder.
        splits: split -> number of images.
        shards: number of files.
        size: bytes of all files.
        broken: names of the images that were left out.
    """

    path: pathlib.Path
    splits: dict[str, int]
    shards: int
    size: int
    broken: list[str]


def prepare(
    dataset: str | Dataset,
    out: str | os.PathLike[str],
    *,
    data_dir: str | None = None,
    download: bool = False,
    shard_megabytes: int = 256,
    jobs: int = 0,
    max_pixels: int = codecs.MAX_PIXELS,
) -> Prepared:
    """Copy all splits of a data set into a folder; the same call resumes an interrupted copy.

    Args:
        dataset: name of a data set, as for `sources.load`, or the data set.
        out: the folder.
        data_dir: folder of prepared tensorflow-datasets, for data sets of these.
        download: download the data set of tensorflow-datasets if it is missing.
        shard_megabytes: approximate size of a shard in 10^6 bytes.
        jobs: shards that are written at a time; 0 for one per processor.
        max_pixels: larger images are broken.

    Raises:
        ValueError: the data set is unknown, `out` holds something else, or a split has no image that can be decoded.
        OSError: the disk is full.
    """
    dataset = sources.load(dataset, data_dir, download) if isinstance(dataset, str) else dataset
    if shard_megabytes < 1:
        raise InputError(f"shard_megabytes must be at least 1; got {shard_megabytes}.")
    examples = {split: dataset.examples(split) for split in dataset.info.splits}
    folder = pathlib.Path(files.expand(os.fspath(out))).absolute()
    counts = {split: _shards(part, shard_megabytes) for split, part in examples.items()}
    name = re.sub(r"\W+", "_", folder.name).strip("_").lower()
    name = name if name[:1].isalpha() else f"images_{name}".strip("_")
    _check_plan(folder, {"dataset": dataset.info.name, "splits": dataset.info.splits, "shards": counts})
    with files.in_use(folder, "out"):
        done = _write_all(folder, name, examples, counts, jobs, max_pixels)
        return _finish(folder, name, dataset, done)


def _shards(examples: Images | Files | Records | Stream, megabytes: int) -> int:
    """The number of shards of a split, from the mean size of some of its images."""
    index = np.unique(np.linspace(0, examples.count - 1, SAMPLE).astype("int64"))
    if isinstance(examples, Stream):
        index = np.arange(len(index))  # without opening all shards
    mean = np.mean([len(content) for content, _, _ in _read(examples, index)])
    return max(1, math.ceil(mean * examples.count / (megabytes * 1e6)))


def _read(examples: Any, index: np.ndarray) -> Iterator[tuple[bytes, int, str]]:
    """Yield the encoded image, label and name of examples; a file that cannot be read is empty."""
    if isinstance(examples, Records):
        for start in range(0, len(index), CHUNK):
            contents, labels, names = examples.fetch(tf.constant(index[start : start + CHUNK], tf.int64))
            for content, label, name in zip(contents.numpy(), labels.numpy(), names.numpy(), strict=True):
                yield content, int(label), name.decode()
        return
    if isinstance(examples, Stream):
        reader = StreamReader(examples)
        for number in index:
            yield *reader.read(int(number)), f"{examples.name}#{number}"
        return
    for number in index:
        label = int(examples.labels[number])
        if isinstance(examples, Images):
            yield tf.io.encode_png(examples.images[number]).numpy(), label, str(number)
            continue
        path, content = str(examples.paths[number]), b""
        with contextlib.suppress(FileNotFoundError, PermissionError):
            content = pathlib.Path(path).read_bytes()
        yield content, label, path


def _check_plan(folder: pathlib.Path, plan: dict[str, Any]) -> None:
    """Create a folder with its plan, or check that an existing one has the same."""
    file, new = folder / PLAN, not folder.exists() or not any(folder.iterdir())
    if new:
        files.make_parent(file)
        files.write(file, json.dumps(plan, indent=2) + "\n")
        return
    if not file.is_file():
        raise InputError(f"out must be a new folder or that of an interrupted copy; {str(folder)!r} exists.")
    for key, value in json.loads(file.read_text(encoding="utf-8")).items():
        if plan.get(key) != value:
            raise InputError(
                f"out must be a new folder or that of the same copy; {str(folder)!r} has {key} {value}, not "
                f"{plan[key]}."
            )


def _write_all(
    folder: pathlib.Path, name: str, examples: dict[str, Any], counts: dict[str, int], jobs: int, max_pixels: int
) -> dict[str, list[tuple[pathlib.Path, Shard]]]:
    """Write the shards that are not there yet; return those of each split."""
    tasks = [
        (split, folder / f"{name}-{split}.array_record-{number:05d}-of-{count:05d}", part)
        for split, count in counts.items()
        for number, part in enumerate(np.array_split(np.arange(examples[split].count), count))
    ]
    done: dict[str, list[tuple[pathlib.Path, Shard]]] = {split: [] for split in counts}
    total = sum(len(part) for _, _, part in tasks)
    with (
        tqdm(total=total, unit="image", disable=None) as bar,
        concurrent.futures.ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool,
    ):
        futures = [pool.submit(_shard, examples[split], part, path, max_pixels, bar) for split, path, part in tasks]
        try:
            for (split, path, _), future in zip(tasks, futures, strict=True):
                done[split].append((path, future.result()))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return done


def _shard(examples: Any, index: np.ndarray, path: pathlib.Path, max_pixels: int, bar: tqdm) -> Shard:
    """Write a shard, unless it is finished."""
    record = path.with_name(f"{path.name}.json")
    if path.is_file() and record.is_file():
        bar.update(len(index))
        return Shard(**json.loads(record.read_text(encoding="utf-8")))
    from array_record.python.array_record_module import ArrayRecordWriter

    count, broken, partial = 0, [], path.with_name(f".{path.name}")
    with _written(partial):
        writer = ArrayRecordWriter(str(partial), "group_size:1")
    for content, label, name in _read(examples, index):
        if _decodes(content, max_pixels):
            with _written(partial):
                writer.write(_example(content, label))
            count += 1
        else:
            broken.append(name)
        bar.update()
    with _written(partial):
        writer.close()
    files.fsync(partial)
    shard = Shard(count, partial.stat().st_size, files.digest(partial), broken)
    files.write(record, json.dumps(dataclasses.asdict(shard)) + "\n")
    partial.rename(path)
    return shard


@contextlib.contextmanager
def _written(path: pathlib.Path) -> Iterator[None]:
    """Report a full disk as an error of the argument `out`: ArrayRecord raises a `RuntimeError` without a number."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).split(";")[0].rstrip(".")
        raise InputError(f"out must be writable; {str(path.parent)!r} is not: {reason}.") from error


@functools.cache
def _decoder(max_pixels: int) -> Callable[[bytes], Any]:
    """A function that decodes an image file as training does."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def decode(content: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([codecs.checked_dimensions(content, max_pixels)]):
            return tf.shape(codecs.decode(tf.identity(content)))

    return decode


def _decodes(content: bytes, max_pixels: int) -> bool:
    """Whether an image file can be decoded."""
    try:
        _decoder(max_pixels)(content)
    except tf.errors.InvalidArgumentError:
        return False
    return True


def _example(content: bytes, label: int) -> bytes:
    """The record of an image."""
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[content])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString(deterministic=True)  # the order of a map is random in each process otherwise


def _finish(
    folder: pathlib.Path, name: str, dataset: Dataset, done: dict[str, list[tuple[pathlib.Path, Shard]]]
) -> Prepared:
    """Write the metadata, which make the folder a data set."""
    import tensorflow_datasets as tfds

    everything = [item for parts in done.values() for item in parts]
    broken = [name for _, shard in everything for name in shard.broken]
    for split, parts in done.items():
        if not sum(shard.count for _, shard in parts):
            raise InputError(f"split {split!r} must have an image that can be decoded; of {listed(broken)} none can.")
    files.write(folder / "SHA256SUMS", "".join(f"{shard.sha256}  {path.name}\n" for path, shard in everything))
    files.write(folder / "broken.txt", "".join(f"{name}\n" for name in broken))
    template = tfds.core.ShardedFileTemplate(folder, dataset_name=name, filetype_suffix="array_record")
    splits = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[shard.count for _, shard in parts],
            num_bytes=sum(shard.size for _, shard in parts),
            filename_template=template.replace(split=split),
        )
        for split, parts in done.items()
    ]
    size = dataset.info.image_size
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(*(size or (None, None)), 3)),
                "label": tfds.features.ClassLabel(names=list(dataset.info.class_names)),
            }
        ),
        split_infos=splits,
        filename_template=template,
        check_data=False,
        description=f"{dataset.info.name}, copied by keras_resnet.",
        supervised_keys=("image", "label"),
    )
    for path, _ in everything:
        path.with_name(f"{path.name}.json").unlink()
    (folder / PLAN).unlink()
    counts = {split: sum(shard.count for _, shard in parts) for split, parts in done.items()}
    return Prepared(folder, counts, len(everything), sum(shard.size for _, shard in everything), broken)
