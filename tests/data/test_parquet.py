"""Parquet files with images, written by pyarrow as Hugging Face's datasets writes them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from keras_resnet.data import parquet, pipeline, prepare, sources
from keras_resnet.data.transforms import EvalTransform

COUNT = 60
CLASSES = ["ant", "bee", "fly"]
FEATURES = {
    "image": {"_type": "Image"},
    "coarse": {"dtype": "int64", "_type": "Value"},
    "kind": {"names": CLASSES, "_type": "ClassLabel"},
}


def image(number):
    return tf.io.encode_png(np.full((9 + number % 5, 12, 3), number, "uint8")).numpy()


def table(numbers, features=FEATURES, label="kind"):
    columns = {
        "coarse": pa.array([7] * len(numbers), "int64"),
        "image": [{"bytes": image(number), "path": f"{number}.png"} for number in numbers],
        label: pa.array([number % 3 for number in numbers], "int64"),
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    return pa.table(columns).replace_schema_metadata(metadata)


def write(folder, **options):
    """Images 0 to COUNT - 1 of classes number % 3 in two files with row groups of seven."""
    for shard, numbers in enumerate(np.array_split(np.arange(COUNT), 2)):
        pq.write_table(
            table(numbers.tolist(), **options), folder / f"train-{shard:05}-of-00002.parquet", row_group_size=7
        )
    return sources.load(f"parquet:{folder}")


@pytest.mark.parametrize("small", [1 << 26, 0])
def test_images_labels_and_classes(tmp_path, monkeypatch, small):
    monkeypatch.setattr(parquet, "SMALL", small)
    dataset = write(tmp_path)
    assert (dataset.info.class_names, dataset.info.splits) == (tuple(CLASSES), {"train": COUNT})
    transform = EvalTransform((8, 8), (0.0,) * 3, (1.0,) * 3)
    batches = list(pipeline.evaluate(dataset, 16, transform, split="train").as_numpy_iterator())
    numbers = np.concatenate([pixels.max((1, 2, 3)) for pixels, _ in batches]).astype(int)
    np.testing.assert_array_equal(numbers, np.arange(COUNT))
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), np.arange(COUNT) % 3)


@pytest.mark.parametrize(("options", "names"), [({"features": {}, "label": "label"}, ("0", "1", "2")), ({}, CLASSES)])
def test_classes_are_those_of_the_metadata_or_the_labels(tmp_path, options, names):
    assert write(tmp_path, **options).info.class_names == tuple(names)


def test_bytes_without_a_struct_and_names_in_a_file(tmp_path):
    pq.write_table(pa.table({"jpg": [image(3)], "labels": pa.array([1], "int32")}), tmp_path / "val.parquet")
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    dataset = sources.load(f"parquet:{tmp_path}/val.parquet")
    assert (dataset.info.class_names, dataset.info.splits) == (("ant", "bee"), {"val": 1})
    contents, label = dataset.examples("val").pick(np.array([0])).fetch(tf.range(1, dtype=tf.int64))[:2]
    assert (contents.numpy()[0], label.numpy()[0]) == (image(3), 1)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": [1]}, "must have a column of image files, as bytes; it has label .int64."),
        ({"image": ["a.png"], "label": [1]}, r"must have a column of image files, as bytes; it has image .string."),
        ({"image": [b"x"], "label": ["ant"]}, "must have a column of integer labels; it has image .binary., label"),
        ({"image": [b"x", None], "label": [1, 1]}, "column 'image' of .* must hold the image files themselves"),
        ({"image": [b"x", b"x"], "label": [1, None]}, "column 'label' of .* must have a label in each row"),
        ({"image": [], "label": []}, "must have"),
        ({"image": [b"x"], "label": ["ant"]}, r"it has .*; datasets' class_encode_column\('label'\) makes integers"),
    ],
)
def test_other_columns(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=message):
        sources.load(f"parquet:{tmp_path}").examples("train").pick(np.arange(2))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            table([1], {**FEATURES, "kind": {"names": CLASSES[::-1], "_type": "ClassLabel"}}),
            "the same order, ant, bee, fly",
        ),
        (table([1], {}), "it has none"),
        (
            table([1]).rename_columns(["coarse", "photo", "kind"]),
            "must have the columns 'image' and 'kind' .* lacks image",
        ),
        (table([1]).set_column(2, "kind", pa.array(["ant"])), "must have a column of integer labels"),
    ],
)
def test_files_that_differ_from_the_first(tmp_path, other, message):
    pq.write_table(table([0]), tmp_path / "train.parquet")
    pq.write_table(other, tmp_path / "val.parquet")
    with pytest.raises(ValueError, match=message):
        sources.load(f"parquet:{tmp_path}")


def test_a_folder_of_save_to_disk(tmp_path):
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(ValueError, match=r"save_to_disk wrote it: convert each split with .*to_parquet"):
        sources.load(f"parquet:{tmp_path}")


def test_damaged_files(tmp_path):
    dataset = write(tmp_path)
    path = tmp_path / "train-00000-of-00002.parquet"
    content = path.read_bytes()
    path.write_bytes(b"\0" * 900 + content[900:])
    with pytest.raises(ValueError, match=r"train-00000-of-00002.parquet' cannot be read in row group 0"):
        dataset.examples("train").pick(np.arange(2))
    path.write_bytes(content[:-9])
    with pytest.raises(ValueError, match=r"train-00000-of-00002.parquet' must be a whole Parquet file"):
        sources.load(f"parquet:{tmp_path}")


def test_copies_have_the_same_images(tmp_path):
    (tmp_path / "files").mkdir()
    write(tmp_path / "files")
    made = prepare.prepare(f"parquet:{tmp_path}/files", tmp_path / "copy")
    assert (made.splits, made.broken) == ({"train": COUNT}, [])
    copy = sources.load(f"tfds:{tmp_path}/copy")
    contents, labels, _ = copy.examples("train").fetch(tf.range(COUNT, dtype=tf.int64))
    assert contents.numpy().tolist() == [image(number) for number in range(COUNT)]
    assert labels.numpy().tolist() == [number % 3 for number in range(COUNT)]
    assert copy.info.class_names == tuple(CLASSES)
