"""Parquet files with images, as Hugging Face's datasets are stored: a column of image files and one of labels."""

from __future__ import annotations

import collections
import concurrent.futures
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_resnet.data import shards
from keras_resnet.data.dataset import Dataset, DatasetInfo, Stream
from keras_resnet.errors import InputError, listed

THREADS = 16
"""Files whose metadata is read at a time."""

ROWS = 16
"""Rows that are read at a time."""

SMALL = 1 << 26
"""Most bytes of a row group that is read as a whole."""


def load(pattern: str) -> Dataset:
    """Open Parquet files; each epoch permutes their row groups, and workers read only row groups of their own.

    The image column is the first one of the type Image in the metadata that Hugging Face's datasets writes, or else the
    first one of bytes; it holds image files, as bytes or as a struct with the field `bytes`. The label column is the
    first ClassLabel of the metadata, which names the classes, or else the first one of integers; a column "label" is
    preferred. `classes.txt` next to the files names the classes otherwise.

    Args:
        pattern: folder, file or pattern, as for `shards.by_split`.

    Raises:
        ValueError: there are no files, or one is damaged or lacks such columns.
    """
    splits = shards.by_split("parquet", pattern, (".parquet",))
    first = next(iter(splits.values()))
    schema = _metadata(first[0]).schema.to_arrow_schema()
    features = _features(schema)
    image, label = image_column(schema, features, first[0]), label_column(schema, features, first[0])
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        metadata = {split: list(pool.map(_metadata, paths)) for split, paths in splits.items()}
    for path, file in (
        (path, file) for split in splits for path, file in zip(splits[split], metadata[split], strict=True)
    ):
        _check_same(file, path, first[0], image, label, features)
    names = features.get(label, {}).get("names") or shards.class_names(first)
    streams = {split: _stream(split, paths, metadata[split], image, label) for split, paths in splits.items()}
    names = names or [str(number) for number in range(_classes(splits, label))]
    counts = {split: stream.count for split, stream in streams.items()}
    return Dataset(DatasetInfo(f"parquet:{pattern}", tuple(names), None, counts), streams.__getitem__)


def _metadata(path: str) -> Any:
    """The `pyarrow.parquet.FileMetaData` of a file."""
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_metadata(path)
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{path!r} must be a whole Parquet file: {str(error).splitlines()[0].rstrip('.')}.") from error


def _features(schema: Any) -> dict[str, Any]:
    """The features in Hugging Face's metadata; {} without it."""
    return json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})


def _check_same(metadata: Any, path: str, first: str, image: str, label: str, features: Mapping[str, Any]) -> None:
    """Raise `InputError` unless a file has the columns of the first one, and the same names of classes."""
    schema = metadata.schema.to_arrow_schema()
    if missing := [name for name in (image, label) if name not in schema.names]:
        raise InputError(
            f"{path!r} must have the columns {image!r} and {label!r} of {first!r}; it lacks {listed(missing)}."
        )
    image_column(schema.empty_table().select([image]).schema, {}, path)
    label_column(schema.empty_table().select([label]).schema, {}, path)
    names, others = (found.get(label, {}).get("names") for found in (features, _features(schema)))
    if names != others:
        raise InputError(
            f"{path!r} must have the classes of {first!r} in the same order, {listed(names or ['none'])}; it has "
            f"{listed(others or ['none'])}."
        )


def image_column(schema: Any, features: Mapping[str, Any], path: str) -> str:
    """Return the name of the column of images.

    Args:
        schema: the `pyarrow.Schema` of a file.
        features: the features in Hugging Face's metadata; {} without it.
        path: the file, for messages.

    Raises:
        ValueError: there is none.
    """
    from pyarrow import types

    def is_bytes(kind: Any) -> bool:
        return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)

    named = [name for name, feature in features.items() if _kind(feature) == "Image"]
    found = [
        field.name
        for field in schema
        if is_bytes(field.type)
        or (types.is_struct(field.type) and any(part.name == "bytes" and is_bytes(part.type) for part in field.type))
    ]
    for name in named or found:
        if name in found:
            return name
    raise InputError(f"{path!r} must have a column of image files, as bytes; it has {_columns(schema)}.")


def label_column(schema: Any, features: Mapping[str, Any], path: str) -> str:
    """Return the name of the column of labels; arguments as for `image_column`.

    Raises:
        ValueError: there is none.
    """
    from pyarrow import types

    integers = [field.name for field in schema if types.is_integer(field.type)]
    named = [name for name, feature in features.items() if _kind(feature) == "ClassLabel" and name in integers]
    for name in ("label", *named, "labels", *integers):
        if name in integers:
            return name
    raise InputError(f"{path!r} must have a column of integer labels; it has {_columns(schema)}{_encode(schema)}.")


def _kind(feature: Any) -> str:
    return feature.get("_type", "") if isinstance(feature, dict) else ""


def _encode(schema: Any) -> str:
    """How to convert labels that are text, to end a message; "" if no column of this name has text."""
    from pyarrow import types

    texts = [field.name for field in schema if types.is_string(field.type) or types.is_large_string(field.type)]
    text = next((name for name in ("label", "labels", *texts) if name in texts), None)
    return f"; datasets' class_encode_column({text!r}) makes integers of text" if text else ""


def _columns(schema: Any) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _classes(splits: Mapping[str, Sequence[str]], label: str) -> int:
    """The number of classes, from all labels."""
    import pyarrow.compute
    import pyarrow.parquet

    paths = [path for part in splits.values() for path in part]
    largest = [pyarrow.compute.max(pyarrow.parquet.read_table(path, columns=[label])[label]).as_py() for path in paths]
    return 1 + max((value for value in largest if value is not None), default=0)


def _stream(split: str, paths: Sequence[str], metadata: Sequence[Any], image: str, label: str) -> Stream:
    """The row groups of the files of a split."""
    groups = [
        (path, file, group) for path, file in zip(paths, metadata, strict=True) for group in range(file.num_row_groups)
    ]
    rows = [file.row_group(group).num_rows for file in metadata for group in range(file.num_row_groups)]
    if not sum(rows):
        raise InputError(f"split {split!r} must have images; {paths[0]!r} has no rows.")

    def open(block: int, first: int) -> Iterator[tuple[bytes, int]]:
        return _rows(*groups[block], first, image, label)

    return Stream.of(f"parquet/{split}", rows, open)


def _rows(path: str, metadata: Any, group: int, first: int, image: str, label: str) -> Iterator[tuple[bytes, int]]:
    """Yield the image file and label of each row of a row group from row `first` on."""
    import pyarrow

    rows = _read(path, metadata, group, first, image, label)
    if metadata.row_group(group).total_byte_size > SMALL:
        yield from rows
        return
    # Arrow holds three times the bytes of a row group that is read in part, for each place where a stream is read.
    whole = collections.deque(rows)
    pyarrow.default_memory_pool().release_unused()
    while whole:
        yield whole.popleft()


def _read(path: str, metadata: Any, group: int, first: int, image: str, label: str) -> Iterator[tuple[bytes, int]]:
    """Read the rows of `_rows` a few at a time."""
    import pyarrow
    import pyarrow.parquet

    row = 0
    with pyarrow.parquet.ParquetFile(path, metadata=metadata, buffer_size=1 << 18, pre_buffer=False) as file:
        try:
            for batch in file.iter_batches(ROWS, [group], [image, label], use_threads=False):
                skipped = min(max(first - row, 0), len(batch))
                row += len(batch)
                part = batch.slice(skipped)
                contents, labels = _contents(part.column(image), path, image), _labels(part.column(label), path, label)
                del batch, part  # frees the memory before the next rows are read
                yield from zip(contents, labels, strict=True)
        except (pyarrow.ArrowException, OSError) as error:
            raise InputError(f"{path!r} cannot be read in row group {group}: {str(error).splitlines()[0]}.") from error


def _contents(column: Any, path: str, name: str) -> list[bytes]:
    """The image files of a column."""
    from pyarrow import types

    values = column.field("bytes") if types.is_struct(column.type) else column
    if values.null_count:
        raise InputError(f"column {name!r} of {path!r} must hold the image files themselves; a value has no bytes.")
    return values.to_pylist()


def _labels(column: Any, path: str, name: str) -> np.ndarray:
    """The labels of a column."""
    if column.null_count:
        raise InputError(f"column {name!r} of {path!r} must have a label in each row; a value is missing.")
    return column.to_numpy()
