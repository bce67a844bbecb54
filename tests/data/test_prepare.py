"""Copies of data sets in ArrayRecord shards: complete, resumable, without broken images."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf
from array_record.python import array_record_module

from keras_resnet.cli import main as cli
from keras_resnet.data import prepare, sources
from keras_resnet.errors import InputError

COUNT = 30
BROKEN = (3, 4, 17)


@pytest.fixture
def folder(tmp_path):
    """Images of three classes whose color is their number; some are broken in different ways."""
    root = tmp_path / "photos"
    for number in range(COUNT):
        path = root / "train" / ["ant", "bee", "fly"][number % 3] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = tf.io.encode_png(np.full((9 + number % 4, 12, 3), number, "uint8")).numpy()
        path.write_bytes(content[:-20] if number in BROKEN else content)
    for name in ("ant", "bee", "fly"):
        (root / "val" / name).mkdir(parents=True)
    (root / "val" / "ant" / "0.png").write_bytes(content)
    return root


def images_of(path, split="train"):
    """The labels of the images in a split, by their color."""
    examples = sources.load(f"tfds:{path}").examples(split)
    contents, labels, _ = examples.fetch(tf.range(examples.count, dtype=tf.int64))
    return {int(tf.io.decode_png(c)[0, 0, 0]): int(label) for c, label in zip(contents, labels, strict=True)}


def test_a_folder_with_broken_images(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(prepare, "CHUNK", 4)
    out = tmp_path / "out" / "Some Photos"
    arguments = [f"--dataset=folder:{folder}", f"--out={out}", "--jobs=2"]
    assert cli.run("prepare", arguments) == 0
    printed = capsys.readouterr().out
    assert "train 27 images, val 1 image in 2 files" in printed
    assert "left out 3 images that cannot be decoded" in printed
    expected = {number: number % 3 for number in range(COUNT) if number not in BROKEN}
    assert images_of(out) == expected
    assert images_of(out, "val") == {COUNT - 1: 0}
    dataset = sources.load(f"tfds:{out}")
    assert dataset.info.class_names == ("ant", "bee", "fly")
    broken = (out / "broken.txt").read_text().splitlines()
    assert sorted(int(path[-6:-4]) for path in broken) == sorted(BROKEN)
    for line in (out / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert cli.run("prepare", arguments) == 1
    assert "out must be a new folder or that of an interrupted copy" in capsys.readouterr().err


def test_an_interrupted_copy_goes_on(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "_shards", lambda examples, megabytes: min(5, examples.count))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    prepare.prepare(f"folder:{folder}", whole, jobs=1)
    digest, finished = prepare.files.digest, []

    def interrupted(path):
        if len(finished) == 3:
            raise KeyboardInterrupt
        finished.append(path.name)
        return digest(path)

    monkeypatch.setattr(prepare.files, "digest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(f"folder:{folder}", parts, jobs=1)
    monkeypatch.setattr(prepare.files, "digest", digest)
    with pytest.raises(ValueError, match=r"dataset must name a folder with dataset_info.json"):
        sources.load(f"tfds:{parts}")
    with pytest.raises(ValueError, match=r"out must be a new folder or that of the same copy; .* has dataset folder"):
        prepare.prepare("digits", parts)
    states = {path: path.stat().st_mtime_ns for path in parts.glob("parts-*") if path.suffix != ".json"}
    assert len(states) == 3
    made = prepare.prepare(f"folder:{folder}", parts, jobs=2)
    assert {path: path.stat().st_mtime_ns for path in states} == states
    assert (made.splits, made.shards, len(made.broken)) == ({"train": 27, "val": 1}, 6, 3)
    sums = [
        sorted(line.split()[0] for line in (path / "SHA256SUMS").read_text().splitlines()) for path in (whole, parts)
    ]
    assert sums[0] == sums[1]
    assert images_of(parts) == images_of(whole)
    assert sorted(path.name for path in parts.iterdir() if path.name.startswith(".") or path.suffix == ".json") == [
        "dataset_info.json",
        "features.json",
    ]


def test_images_in_memory(tmp_path, random):
    images = random.integers(0, 256, (20, 8, 8, 3)).astype("uint8")
    original = sources.from_arrays(images, np.arange(20) % 4, ("a", "b", "c", "d"))
    prepare.prepare(original, tmp_path / "copy")
    copy = sources.load(f"tfds:{tmp_path / 'copy'}")
    np.testing.assert_array_equal(copy.examples("train").images, images)
    np.testing.assert_array_equal(copy.examples("train").labels, np.arange(20) % 4)
    assert copy.info.class_names == original.info.class_names


def test_splits_without_images(tmp_path, folder):
    for path in (folder / "val").rglob("*.png"):
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match=r"split 'val' must have an image that can be decoded; of .*0.png none can"):
        prepare.prepare(f"folder:{folder}", tmp_path / "out")


def test_a_full_disk_is_an_error_of_out(tmp_path, monkeypatch):
    def full(self):
        raise RuntimeError("write() failed: No space left on device; writing out; Failed to close")

    dataset = sources.from_arrays(np.zeros((2, 8, 8, 3), "uint8"), np.zeros(2, int), ("a",))
    with monkeypatch.context() as patch:
        patch.setattr(array_record_module.ArrayRecordWriter, "close", full)
        with pytest.raises(InputError, match=r"out must be writable; '.*out' is not: .*No space left on device\."):
            prepare.prepare(dataset, tmp_path / "out", jobs=1)
    assert prepare.prepare(dataset, tmp_path / "out", jobs=1).splits == {"train": 2}


def test_records_do_not_depend_on_the_process():
    records = [prepare._example(bytes([number]), number) for number in range(16)]
    assert all(record.index(b"image") < record.index(b"label") for record in records)
