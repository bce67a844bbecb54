"""Synthetic ImageNet in every form that the package reads, for benchmarks and tests of the input.

    folder, sequential = write("parquet", "data", photographs(64, 25), count=12_811, shards=32)

The photographs are a small pool of JPEG files, of which record n has number n modulo the pool; its label is n modulo
the classes. All forms have the same records in the same order, except for folders, which interleave their classes.
"""

from __future__ import annotations

import io
import itertools
import pathlib
import tarfile

import numpy as np
from PIL import Image

CLASSES = 10
KINDS = ("folder", "array_record", "tfrecord", "tar", "stream", "stream_tar", "parquet")
"""Forms; "stream" and "stream_tar" are the files of "tfrecord" and "tar" read in their order."""

BITS_PER_PIXEL = 4.7
"""Of ImageNet's files: 110 kB for 500x375 pixels."""


def photographs(count: int, kilobytes: float, seed: int = 0) -> list[bytes]:
    """Return JPEG files of about this size on average, with ImageNet's bits per pixel, from half to twice the area."""
    random = np.random.default_rng(seed)
    contents = []
    for scale in np.linspace(0.5, 1.5, count):
        area = kilobytes * 8000 / BITS_PER_PIXEL * scale
        height, width = int(np.sqrt(area * 3 / 4)), int(np.sqrt(area * 4 / 3))
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((width, height))
        grain = random.normal(0, 26, (height, width, 1))
        pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype("uint8")
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=85)
        contents.append(file.getvalue())
    return contents


def name_of(kind: str, folder: pathlib.Path) -> tuple[str, bool]:
    """Return the name of a data set that `write` wrote, and whether it is read in its order."""
    form = {"stream": "tfrecord", "stream_tar": "tar"}.get(kind, kind)
    return f"{'tfds' if form == 'array_record' else form}:{folder / form}", kind.startswith("stream")


def write(kind: str, folder: pathlib.Path, pool: list[bytes], count: int, shards: int) -> tuple[str, bool]:
    """Write the split "train" unless it is there, and return `name_of`."""
    name, in_order = name_of(kind, pathlib.Path(folder))
    path = pathlib.Path(name.partition(":")[2])
    if not path.exists():
        path.mkdir(parents=True)
        WRITERS[path.name](path, pool, [part.tolist() for part in np.array_split(np.arange(count), shards)])
    return name, in_order


def _folder(path: pathlib.Path, pool: list[bytes], parts: list[list[int]]) -> None:
    for number in range(CLASSES):
        (path / "train" / str(number)).mkdir(parents=True)
    for number in itertools.chain(*parts):
        (path / "train" / str(number % CLASSES) / f"{number:07}.jpg").write_bytes(pool[number % len(pool)])


def _tar(path: pathlib.Path, pool: list[bytes], parts: list[list[int]]) -> None:
    for shard, numbers in enumerate(parts):
        with tarfile.open(path / f"train-{shard:05}.tar", "w") as archive:
            for number in numbers:
                for ending, content in (("jpg", pool[number % len(pool)]), ("cls", str(number % CLASSES).encode())):
                    info = tarfile.TarInfo(f"{number:07}.{ending}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))


def _tfrecord(path: pathlib.Path, pool: list[bytes], parts: list[list[int]]) -> None:
    import tensorflow as tf

    (path / "classes.txt").write_text("".join(f"{number}\n" for number in range(CLASSES)))
    for shard, numbers in enumerate(parts):
        with tf.io.TFRecordWriter(str(path / f"train-{shard:05}-of-{len(parts):05}")) as writer:
            for number in numbers:
                example = tf.train.Example()
                feature = example.features.feature
                feature["image/encoded"].bytes_list.value.append(pool[number % len(pool)])
                feature["image/class/label"].int64_list.value.append(number % CLASSES + 1)
                writer.write(example.SerializeToString())


def _parquet(path: pathlib.Path, pool: list[bytes], parts: list[list[int]]) -> None:
    import pyarrow
    import pyarrow.parquet

    for shard, numbers in enumerate(parts):
        images = [{"bytes": pool[number % len(pool)], "path": f"{number:07}.jpg"} for number in numbers]
        table = pyarrow.table({"image": images, "label": [number % CLASSES for number in numbers]})
        # Hugging Face's datasets writes images in row groups of 100.
        pyarrow.parquet.write_table(table, path / f"train-{shard:05}-of-{len(parts):05}.parquet", row_group_size=100)


def _array_record(path: pathlib.Path, pool: list[bytes], parts: list[list[int]]) -> None:
    import shutil

    from keras_resnet.data import prepare

    shutil.rmtree(path)
    size = np.mean([len(content) for content in pool]) * sum(map(len, parts)) / len(parts)
    name = write("tar", path.parent, pool, sum(map(len, parts)), len(parts))[0]
    prepare.prepare(name, path, shard_megabytes=max(1, round(size / 1e6)))


WRITERS = {"folder": _folder, "array_record": _array_record, "tfrecord": _tfrecord, "tar": _tar, "parquet": _parquet}
"""Form of the files -> function that writes them."""
