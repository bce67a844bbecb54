"""IDX files: what is read is what was written, and nothing else is."""

import gzip

import numpy as np
import pytest

from keras_resnet.data import idx, sources
from keras_resnet.data.dataset import Images
from tests.data.idx_files import encoded, folder


@pytest.mark.parametrize("compress", [True, False])
def test_a_data_set_of_idx_files(compress, tmp_path, random):
    images, labels = random.integers(0, 256, (30, 28, 24)), np.arange(30) % 7
    root = folder(tmp_path / "fashion", images, labels, compress)
    dataset = sources.load(f"idx:{root}")
    assert dataset.info.splits == {"train": 15, "test": 15}
    assert dataset.info.image_size == (28, 24)
    assert dataset.info.class_names == tuple("0123456")
    assert dataset.info.mean is None
    test = dataset.examples("test")
    assert isinstance(test, Images)
    assert (test.images.dtype, test.labels.dtype) == (np.uint8, np.int32)
    np.testing.assert_array_equal(test.images, np.stack([images[:15]] * 3, -1))
    np.testing.assert_array_equal(dataset.examples("train").labels, labels[15:])


def test_names_of_classes(tmp_path, random):
    root = folder(tmp_path, random.integers(0, 256, (8, 4, 4)), np.arange(8) % 3)
    (root / "labels.txt").write_text("T-shirt/top\nTrouser\nHemd ü\n\n", encoding="utf-8")
    assert sources.load(f"idx:{root}").info.class_names == ("T-shirt/top", "Trouser", "Hemd ü")
    (root / "labels.txt").write_text("one\ntwo\n")
    with pytest.raises(ValueError, match=r"labels.txt of '.*' must name 3 classes; it names 2\."):
        sources.load(f"idx:{root}")


GOOD = encoded(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"must begin with 0, 0, 8 \(unsigned bytes\) and its number of dimensions; it begins with \[\]"),
        (b"\x89PNG\r\n", r"it begins with \[137, 80, 78, 71\]"),
        (encoded(np.zeros(3), kind=13), r"it begins with \[0, 0, 13, 1\]"),
        (b"\0\0\x08\0", r"it begins with \[0, 0, 8, 0\]"),
        (GOOD[:7], "ends within its header"),
        (GOOD[:-1], "must hold 6 values, as its header says; it holds only 5"),
        (GOOD + b"\0", "must hold 6 values, as its header says; it holds more"),
        (b"\0\0\x08\x03" + b"\xff" * 12 + b"abc", "it holds only 3"),
        (gzip.compress(GOOD)[:-9], "cannot be read: Compressed file ended"),
        (gzip.compress(GOOD)[:-8] + b"\0" * 8, "cannot be read: CRC check failed"),
        (gzip.compress(GOOD)[:10] + b"\xff" * 20, "cannot be read: Error -3"),
    ],
    ids=["empty", "png", "floats", "scalar", "header", "cut", "longer", "huge", "cut gzip", "checksum", "bad gzip"],
)
def test_broken_files(content, message, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=rf"IDX file '.*file' .*{message}"):
        idx.read(tmp_path / "file")


def test_folders_that_do_not_fit(tmp_path, random):
    with pytest.raises(ValueError, match="dataset must name an existing folder after 'idx:'; got '/no/such'"):
        sources.load("idx:/no/such")
    with pytest.raises(ValueError, match=r"must hold train-images-idx3-ubyte or train-images-idx3-ubyte.gz; it does"):
        sources.load(f"idx:{tmp_path}")
    images, labels = random.integers(0, 256, (8, 4, 4)), np.arange(8) % 3
    root = folder(tmp_path / "a", images, labels)
    (root / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(encoded(labels[:3])))
    with pytest.raises(ValueError, match=r"test files of .* must hold .* they hold \[4, 4, 4\] and \[3\]"):
        sources.load(f"idx:{root}")
    root = folder(tmp_path / "b", images, labels)
    (root / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(encoded(images[:4, :3])))
    with pytest.raises(ValueError, match=r"must have one size; they have {'train': \(4, 4\), 'test': \(3, 4\)}"):
        sources.load(f"idx:{root}")
    root = folder(tmp_path / "c", images, labels)
    (root / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(encoded(images[:0])))
    (root / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(encoded(labels[:0])))
    with pytest.raises(ValueError, match=r"they hold \[0, 4, 4\] and \[0\]"):
        sources.load(f"idx:{root}")
