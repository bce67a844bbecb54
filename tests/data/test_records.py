"""Records by number: TFRecord, ArrayRecord and tar shards, their index, and batches that are a function of the step."""

import gzip
import io
import json
import re
import tarfile

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_resnet import files
from keras_resnet.data import pipeline, records, sequential, shards, sources
from keras_resnet.data.transforms import EvalTransform, TrainTransform
from keras_resnet.ops import graph_errors
from tests.data.samples import store

COUNT = 19


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def image(number):
    """A file of an image whose color is its number and whose size depends on it."""
    return tf.io.encode_png(np.full((9 + number % 5, 12, 3), number, "uint8")).numpy()


def write_tar(path, numbers, members=None):
    with tarfile.open(path, "w") as archive:
        for number in numbers:
            label = str(number % 3).encode()
            for name, content in (members or {"png": image(number), "cls": label}).items():
                info = tarfile.TarInfo(f"photos/{number:04}.{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def write_tfrecord(path, contents):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)


def example(number):
    feature = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image(number)])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 3 + 1])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def halves():
    return np.array_split(np.arange(COUNT), 2)


def make(kind, folder):
    """Write the images 0 to COUNT - 1, of the classes number % 3, in two shards; return the data set."""
    if kind == "tar":
        for shard, numbers in enumerate(halves()):
            write_tar(folder / f"some-train-{shard:02}.tar", numbers)
        return sources.load(f"tar:{folder}")
    if kind == "tfrecord":
        for shard, numbers in enumerate(halves()):
            write_tfrecord(folder / f"train-{shard:05}-of-00002", map(example, numbers))
        return sources.load(f"tfrecord:{folder}")
    if kind.startswith("stream"):
        return make_stream(kind, folder)
    images = [np.full((9 + number % 5, 12, 3), number, "uint8") for number in range(COUNT)]
    file_format = kind.removeprefix("tfds_")
    store(folder, "some_images", images, np.arange(COUNT) % 3, 3, (None, None, 3), file_format=file_format)
    return sources.load("some_images", data_dir=str(folder))


def make_stream(kind, folder):
    """Like `make`, but the shards are read in their order: local, compressed, or on another file system."""
    if kind == "stream_tfds":
        make("tfds_tfrecord", folder)
        return sources.load("some_images", data_dir=str(folder), sequential=True)
    if kind in ("stream_tar", "stream_tfrecord"):
        return sources.load(make(kind.removeprefix("stream_"), folder).info.name, sequential=True)
    if kind == "stream_gzip_tar":
        for shard, numbers in enumerate(halves()):
            write_tar(folder / "a.tar", numbers)
            (folder / f"train-{shard}.tar.gz").write_bytes(gzip.compress((folder / "a.tar").read_bytes()))
        return sources.load(f"tar:{folder}/train-{{0..1}}.tar.gz")
    remote = f"ram:/{folder}"
    for shard, numbers in enumerate(halves()):
        options = "GZIP" if kind == "stream_gzip_tfrecord" else ""
        path = folder / f"train-{shard:05}-of-00002" if options else f"{remote}/train-{shard:05}-of-00002"
        with tf.io.TFRecordWriter(str(path), options) as writer:
            for number in numbers:
                writer.write(example(number))
    return sources.load(f"tfrecord:{folder if options else remote}")


KINDS = ("tar", "tfrecord", "tfds_tfrecord", "tfds_array_record")
STREAMS = ("tar", "tfrecord", "tfds", "gzip_tar", "gzip_tfrecord", "remote_tfrecord")


@pytest.fixture
def dataset(tmp_path):
    return make("tar", tmp_path)


def eval_batches(dataset, batch_size, context=None):
    transform = EvalTransform((8, 8), (0.0,) * 3, (1.0,) * 3)
    batches = pipeline.evaluate(dataset, batch_size, transform, split="train", with_index=True, context=context)
    return [tuple(value.numpy() for value in batch) for batch in batches]


def train_batches(dataset, count, start=0, seed=3, context=None, split="train"):
    transform = TrainTransform((8, 8), (0.0,) * 3, (1.0,) * 3)
    batches = pipeline.train(dataset, 8, transform, split=split, seed=seed, start_step=start, context=context)
    return [tuple(value.numpy() for value in batch) for batch in batches.take(count)]


def numbers_of(batches):
    """The numbers of the images, from their colors."""
    return np.concatenate([batch[0].max((1, 2, 3)) for batch in batches]).astype(int)


@pytest.mark.parametrize("kind", [*KINDS, *(f"stream_{kind}" for kind in STREAMS)])
def test_every_image_has_its_label_and_is_evaluated_once(kind, tmp_path):
    dataset = make(kind, tmp_path)
    batches = eval_batches(dataset, 8)
    numbers = numbers_of(batches)
    assert sorted(numbers) == list(range(COUNT))
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in batches]), numbers % 3)
    np.testing.assert_array_equal(np.concatenate([batch[2] for batch in batches]), np.arange(COUNT))


def test_each_epoch_is_a_permutation_and_workers_share_it(dataset):
    numbers = numbers_of(train_batches(dataset, COUNT))
    epochs = numbers.reshape(8, COUNT)
    for epoch in epochs:
        assert sorted(epoch) == list(range(COUNT))
    assert len({tuple(epoch) for epoch in epochs}) == 8
    contexts = [tf.distribute.InputContext(2, worker, 2) for worker in range(2)]
    shares = [numbers_of(train_batches(dataset, 5, context=context)).reshape(5, 4) for context in contexts]
    np.testing.assert_array_equal(np.concatenate(shares, 1).ravel(), numbers[:40])


def test_a_start_at_any_step_continues_the_run(dataset):
    whole = train_batches(dataset, 8)
    for start in (1, 7):
        for resumed, expected in zip(train_batches(dataset, 8 - start, start), whole[start:], strict=True):
            for one, two in zip(resumed, expected, strict=True):
                np.testing.assert_array_equal(one, two)


def test_parts_and_picks(dataset):
    assert dataset.examples("train[9:19]").count == 10
    transform = EvalTransform((8, 8), (0.0,) * 3, (1.0,) * 3)
    picked = dataset.pick("train[9:19]", [3, 0])
    batches = [tuple(v.numpy() for v in b) for b in pipeline.evaluate(picked, 2, transform, split="picked")]
    whole = numbers_of(eval_batches(dataset, 10))
    np.testing.assert_array_equal(numbers_of(batches), whole[[12, 9]])


def test_records_are_those_of_the_files(tmp_path):
    contents = [bytes([number]) * (number * 50) for number in range(20)]
    paths = [tmp_path / "a", tmp_path / "b"]
    for path, part in zip(paths, (contents[:5], contents[5:]), strict=True):
        write_tfrecord(path, part)
    reader = records.tfrecords(paths)
    assert len(reader) == 20
    assert reader.read([19, 0, 7, 4, 5]) == [contents[19], contents[0], contents[7], contents[4], contents[5]]


def test_the_index_is_made_once_and_again_when_a_file_changes(tmp_path, cache, monkeypatch):
    path = tmp_path / "a"
    write_tfrecord(path, [b"one", b"two"])
    assert len(records.tfrecords([path])) == 2
    with monkeypatch.context() as patch:
        patch.setattr(records, "scan_tfrecord", None)
        assert records.tfrecords([path]).read([1]) == [b"two"]
    write_tfrecord(path, [b"one", b"two", b"three"])
    assert len(records.tfrecords([path])) == 3
    for file in cache.rglob("*.npz"):
        file.write_bytes(file.read_bytes()[:40])
    assert records.tfrecords([path]).read([2]) == [b"three"]


def test_damaged_shards_are_named(tmp_path):
    path = tmp_path / "train-00000-of-00001"
    write_tfrecord(path, [b"0123456789"] * 3)
    reader = records.tfrecords([path])
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(
        ValueError, match=r"train-00000-of-00001' must be a whole TFRecord file .*; record 2, at byte 52"
    ):
        records.tfrecords([path])
    path.write_bytes(content[:40] + b"x" + content[41:])
    assert reader.read([0]) == [b"0123456789"]
    with pytest.raises(ValueError, match=r"is damaged: the checksum of its record at byte 26 does not match"):
        reader.read([1])
    path.write_bytes(content[:10])
    with pytest.raises(ValueError, match=r"is shorter than when it was indexed; record 1 is missing"):
        reader.read([1])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"must have records of tf.train.Example; one cannot be parsed"):
        sources.load(f"tfrecord:{tmp_path}")
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        writer.write(b"x" * 100)
    with pytest.raises(ValueError, match=r"must be a whole TFRecord file without compression"):
        records.tfrecords([path])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"png": b""}, r"image 'photos/0000' of '.*' must have a label, photos/0000.cls or photos/0000.json"),
        ({"png": b"", "cls": b"dog"}, r"photos/0000.cls of '.*' must have an integer label of 0 or more; it has 'dog'"),
        ({"png": b"", "json": b'{"class": 1}'}, r"photos/0000.json of .* integer label of 0 or more; it has .*class"),
        ({"txt": b"cat"}, r"must have images; it has 1 file and no image"),
        ({"png": b"", "jpg": b"", "cls": b"1"}, r"sample 'photos/0000' of .* one image; it has photos/0000.png, .*jpg"),
        (
            {"left.png": b"", "right.png": b"", "cls": b"1"},
            r"must have one image; it has photos/0000.left.png, .*right",
        ),
        ({"png": b"", "PNG": b"", "cls": b"1"}, r"one file of each name; it has 'photos/0000.png' twice"),
    ],
)
def test_tar_shards_without_images_or_labels(tmp_path, members, message):
    write_tar(tmp_path / "a.tar", [0], members)
    with pytest.raises(ValueError, match=message):
        sources.load(f"tar:{tmp_path}")


def test_tar_shards_in_other_states(tmp_path):
    write_tar(tmp_path / "a.tar", range(3), {"json": json.dumps({"label": 2}).encode(), "jpg": image(0)})
    (tmp_path / "classes.txt").write_text("ant\nbee\nfly\n")
    dataset = sources.load(f"tar:{tmp_path}/a.tar")
    assert dataset.info.class_names == ("ant", "bee", "fly")
    assert dataset.info.splits == {"train": 3}
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    with pytest.raises(ValueError, match=r"classes.txt must name the 3 classes of .*; it names 2"):
        sources.load(f"tar:{tmp_path}/a.tar")
    content = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(content[: content.rindex(b"photos/0002") + 600])
    with pytest.raises(ValueError, match=r"a.tar' must be a whole tar file without compression"):
        sources.load(f"tar:{tmp_path}/a.tar")
    with tarfile.open(tmp_path / "a.tar", "w:gz") as archive:
        archive.add(tmp_path / "classes.txt")
    with pytest.raises(ValueError, match=r"a.tar' must be a whole tar file without compression"):
        sources.load(f"tar:{tmp_path}/a.tar")


@pytest.mark.parametrize("in_order", [False, True])
def test_tar_samples_with_further_files(tmp_path, in_order):
    write_tar(tmp_path / "a.tar", [4], {"jpg": image(4), "mask.png": b"x", "json": b'{"width": 12}', "cls": b"1"})
    write_tar(tmp_path / "empty.tar", [])
    dataset = sources.load(f"tar:{tmp_path}", sequential=in_order)
    assert dataset.info.splits == {"train": 1}
    contents, labels, _ = dataset.pick("train", [0]).examples("picked").fetch(tf.range(1, dtype=tf.int64))
    assert (contents.numpy()[0], labels.numpy()[0]) == (image(4), 1)


def test_tar_shards_that_are_still_written_or_empty(tmp_path):
    write_tar(tmp_path / "a.tar", range(2))
    content = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(content.rstrip(b"\0").ljust(-(-len(content.rstrip(b"\0")) // 512) * 512, b"\0"))
    with pytest.raises(ValueError, match=r"a.tar' must be a whole tar file; its end is missing"):
        sources.load(f"tar:{tmp_path}")
    write_tar(tmp_path / "a.tar", [])
    with pytest.raises(ValueError, match=r"split 'train' must have images; '.*a.tar' has none"):
        sources.load(f"tar:{tmp_path}")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{train,val}-0.tar", ["train-0.tar", "val-0.tar"]),
        ("{train-{0..1},val-0}.tar", ["train-0.tar", "train-1.tar", "val-0.tar"]),
        ("odd {a,b} [0].tar", ["odd {a,b} [0].tar"]),
        ("", ["odd {a,b} [0].tar", "train-0.tar", "train-1.tar", "val-0.tar"]),
    ],
)
def test_patterns_links_and_odd_names(tmp_path, pattern, names):
    for name in ("train-0.tar", "train-1.tar", "val-0.tar", "odd {a,b} [0].tar"):
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "zz-train.tar").symlink_to(tmp_path / "train-0.tar")
    found = shards.by_split("tar", f"{tmp_path}/{pattern}", (".tar",))
    assert sorted(path.removeprefix(f"{tmp_path}/") for paths in found.values() for path in paths) == names


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("pipe:cat a.tar", "must name files after 'tar:', and no command is run"),
        ("http://localhost/a.tar", "must name shards that are on this machine or on a file system of TensorFlow"),
        ("s3://bucket/a-{0..1}.tar", "must name shards that are on this machine or on a file system of TensorFlow"),
    ],
)
def test_shards_that_are_elsewhere(pattern, message):
    with pytest.raises(ValueError, match=message):
        shards.by_split("tar", pattern)


def test_tfrecord_files_in_a_folder(tmp_path):
    names = ["a-train.tfrecord", "val.tfrecords.gz", "train-00000-of-00002", "train-00001-of-00002"]
    for name in [*names, "train-00001-of-00002.index", "train-00001-of-00002.incomplete7"]:
        (tmp_path / name).touch()
    found = shards.by_split("tfrecord", str(tmp_path))
    assert {path.removeprefix(f"{tmp_path}/") for paths in found.values() for path in paths} == set(names)
    (tmp_path / "train-00001-of-00002").unlink()
    with pytest.raises(ValueError, match=r"must have all 00002 shards train-\*-of-00002; it lacks 1 shard .* number 1"):
        shards.by_split("tfrecord", str(tmp_path))
    assert shards.by_split("tfrecord", f"{tmp_path}/train-*2") == {"train": [f"{tmp_path}/train-00000-of-00002"]}
    for number in (1, 2):
        (tmp_path / f"train-{number:05}-of-00002").touch()
    (tmp_path / "train-00000-of-00002").unlink()
    assert len(shards.by_split("tfrecord", str(tmp_path))["train"]) == 3


def record(**features):
    return tf.train.Example(
        features=tf.train.Features(feature={name.replace("__", "/"): value for name, value in features.items()})
    ).SerializeToString()


def integers(*values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def texts(*values):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize(
    ("label", "message"),
    [
        (integers(0), "image/class/label must count from 1, as in TensorFlow's ImageNet files; got 0"),
        (integers(1, 2), "one image file and one integer label; they have .* image/class/label of 2 int64"),
        (texts(b"cat"), "one image file and one integer label; they have .* image/class/label of 1 bytes"),
    ],
)
def test_tfrecords_with_other_labels(tmp_path, label, message, in_order):
    write_tfrecord(tmp_path / "train.tfrecord", [record(image__encoded=texts(image(1)), image__class__label=label)])
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)) as error:
        sources.load(f"tfrecord:{tmp_path}", sequential=in_order).pick("train", [0]).examples("picked").fetch(
            tf.range(1, dtype=tf.int64)
        )
    assert re.search(message, graph_errors.message_of(error.value) or str(error.value))


def test_compressed_tfrecords_of_which_the_first_are_empty(tmp_path):
    for shard, (numbers, options) in enumerate([([], ""), ([], "GZIP"), ([0, 1], "GZIP"), ([2], "")]):
        with tf.io.TFRecordWriter(str(tmp_path / f"train-{shard}-of-4"), options) as writer:
            for number in numbers:
                writer.write(example(number))
    dataset = sources.load(f"tfrecord:{tmp_path}")
    assert sorted(numbers_of(eval_batches(dataset, 3))) == [0, 1, 2]


def test_shards_by_split(tmp_path):
    names = [
        "imagenet-train-000001.tar",
        "imagenet-train-000000.tar",
        "x-validation-0.tar",
        "val/0.tar",
        ".train-1.tar",
    ]
    for name in [*names, "notes.txt"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = shards.by_split("tar", str(tmp_path), (".tar",))
    assert {split: [path.removeprefix(f"{tmp_path}/") for path in paths] for split, paths in found.items()} == {
        "train": ["imagenet-train-000000.tar", "imagenet-train-000001.tar"],
        "val": ["val/0.tar", "x-validation-0.tar"],
    }
    pattern = f"{tmp_path}/imagenet-train-{{000000..000001}}.tar"
    assert shards.by_split("tar", pattern) == {"train": found["train"]}
    with pytest.raises(ValueError, match=r"there is no '.*imagenet-train-000002.tar'"):
        shards.by_split("tar", pattern.replace("1}", "2}"))
    with pytest.raises(ValueError, match=r"no file of '.*' ends in .zip"):
        shards.by_split("tar", str(tmp_path), (".zip",))


def test_a_prepared_folder_needs_no_code(tmp_path):
    made = make("tfds_array_record", tmp_path)
    by_path = sources.load(f"tfds:{tmp_path}/some_images/1.0.0")
    assert by_path.info.class_names == made.info.class_names
    assert by_path.info.splits == {"train": COUNT}
    with pytest.raises(ValueError, match=r"dataset must name a folder with dataset_info.json after 'tfds:'"):
        sources.load(f"tfds:{tmp_path}")


def test_small_images_of_one_size_come_into_memory(tmp_path, random):
    images = random.integers(0, 256, (30, 12, 12, 1)).astype("uint8")
    store(tmp_path, "small", images, np.arange(30) % 3, 3, (12, 12, 1), file_format="array_record")
    examples = sources.load("small", data_dir=str(tmp_path)).examples("train")
    assert {image.tobytes() for image in examples.images[..., :1]} == {image.tobytes() for image in images}


def test_the_labels_are_those_of_tensorflow_datasets(tmp_path):
    dataset = make("tfds_tfrecord", tmp_path)
    builder = tfds.builder("some_images", data_dir=str(tmp_path))
    expected = {int(row["image"][0, 0, 0]): int(row["label"]) for row in tfds.as_numpy(builder.as_dataset("train"))}
    examples = dataset.examples("train")
    contents, labels, names = examples.fetch(tf.range(COUNT, dtype=tf.int64))
    got = {int(tf.io.decode_png(c)[0, 0, 0]): int(label) for c, label in zip(contents, labels, strict=True)}
    assert got == expected
    assert names[5].numpy().decode() == "some_images/train#5"


def test_streams_are_trained_on_and_divided(tmp_path):
    dataset = make("stream_tar", tmp_path)
    whole = train_batches(dataset, 19)
    numbers = numbers_of(whole)
    for epoch in numbers.reshape(8, COUNT):
        assert sorted(epoch) == list(range(COUNT))
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in whole]), numbers % 3)
    for resumed, expected in zip(train_batches(dataset, 3, 11), whole[11:14], strict=True):
        np.testing.assert_array_equal(resumed[0], expected[0])
    context = tf.distribute.InputContext(2, 1, 2)
    np.testing.assert_array_equal(
        numbers_of(train_batches(dataset, 2, context=context)), numbers[[4, 5, 6, 7, 12, 13, 14, 15]]
    )
    evaluated = [
        batch for worker in range(2) for batch in eval_batches(dataset, 8, tf.distribute.InputContext(2, worker, 2))
    ]
    weights = np.concatenate([batch[2] for batch in evaluated]).astype(bool)
    assert sorted(numbers_of(evaluated)[weights]) == list(range(COUNT))


def test_sizes_and_classes_in_files_save_a_pass(tmp_path, monkeypatch):
    make("stream_gzip_tar", tmp_path)
    monkeypatch.setattr(records, "indexed", None)
    (tmp_path / "classes.txt").write_text("ant\nbee\nfly\n")
    (tmp_path / "sizes.json").write_text(json.dumps({"train-0.tar.gz": 10, "train-1.tar.gz": 9}))
    dataset = sources.load(f"tar:{tmp_path}/train-*.tar.gz")
    assert (dataset.info.splits, dataset.info.class_names) == ({"train": COUNT}, ("ant", "bee", "fly"))
    assert dataset.pick("train", [12]).examples("picked").fetch(tf.range(1, dtype=tf.int64))[1] == 0
    for first, found in ((9, "more"), (11, "only 10")):
        (tmp_path / "sizes.json").write_text(json.dumps({"train-0.tar.gz": first, "train-1.tar.gz": 9}))
        examples = sources.load(f"tar:{tmp_path}/train-*.tar.gz").examples("train")
        with pytest.raises(ValueError, match=f"train-0.tar.gz' must have {first} images, by .*; it has {found}"):
            examples.pick(np.arange(first))
    for text, message in (
        ("{", "must be JSON"),
        ("[]", "must have numbers of images"),
        ('{"a": "1"}', "must have num"),
    ):
        (tmp_path / "sizes.json").write_text(text)
        with pytest.raises(ValueError, match=f"sizes.json next to .* {message}"):
            sources.load(f"tar:{tmp_path}/train-*.tar.gz")
    (tmp_path / "sizes.json").write_text('{"train-0.tar.gz": 10}')
    with pytest.raises(ValueError, match=r"sizes.json next to .* must have the number of images of train-1.tar.gz"):
        sources.load(f"tar:{tmp_path}/train-*.tar.gz")


def test_damaged_streams_are_named(tmp_path):
    dataset = make("stream_gzip_tar", tmp_path)
    path = tmp_path / "train-0.tar.gz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"train-0.tar.gz' must be a whole tar file"):
        dataset.examples("train").pick(np.arange(COUNT))
    path = tmp_path / "train-00000-of-00001"
    write_tfrecord(path, [example(0), example(1)])
    dataset = sources.load(f"tfrecord:{path}", sequential=True)
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"train-00000-of-00001' is damaged .*: record 1, at byte \d+"):
        dataset.examples("train").pick(np.arange(2))
    write_tar(tmp_path / "no_label-train.tar", [0], {"png": b"x"})
    with pytest.raises(ValueError, match=r"image 'photos/0000' of .* must have a label"):
        next(sequential.tar_images(str(tmp_path / "no_label-train.tar")))
    with pytest.raises(ValueError, match=r"dataset must name existing shards after 'tfrecord:'"):
        sources.load("tfrecord:ram://no/such/train-*")


def test_streams_skip_records_without_reading_them(tmp_path, monkeypatch):
    read = []
    whole_file = tf.io.gfile.GFile

    class Counting(whole_file):
        def read(self, n=-1):
            content = super().read(n)
            read.append(len(content))
            return content

    monkeypatch.setattr(tf.io.gfile, "GFile", Counting)
    size = 50_000
    write_tfrecord(tmp_path / "train-00000-of-00001", [example(0) + b"\x9a\x06" + bytes(size) for _ in range(9)])
    contents = [f"{number}".encode() * size for number in range(9)]
    with tarfile.open(tmp_path / "train-0.tar", "w") as archive:
        for number, content in enumerate(contents):
            for ending, part in (("png", content), ("cls", b"1")):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(part)
                archive.addfile(member, io.BytesIO(part))
    assert len(list(sequential.tfrecords(str(tmp_path / "train-00000-of-00001"), 7, ""))) == 2
    assert 2 * size < sum(read) < 3 * size
    read.clear()
    assert list(sequential.tar_images(str(tmp_path / "train-0.tar"), 7)) == [(content, 1) for content in contents[7:]]
    assert 2 * size < sum(read) < 3 * size
