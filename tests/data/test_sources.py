"""Data sets by name."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from keras_resnet.data import sources
from keras_resnet.data.dataset import DatasetInfo, Files, Images, Records, split_range
from tests.data.samples import store


def test_digits():
    dataset = sources.load("digits")
    info = dataset.info
    assert info.splits == {"train": 1198, "test": 599}
    assert info.class_names == tuple("0123456789")
    test = dataset.examples("test")
    assert test.images.shape == (599, 32, 32, 3)
    assert test.images.dtype == np.uint8
    np.testing.assert_array_equal(test.labels, load_digits().target[2::3])
    # Enlarged four times: the mean over each 4x4 patch stays near the pixel it came from.
    small = test.images[..., 0].reshape(599, 8, 4, 8, 4).mean((2, 4)) / 255 * 16
    assert np.abs(small - load_digits().images[2::3]).mean() < 1.2
    train = dataset.examples("train").images
    np.testing.assert_allclose(info.mean, train.mean((0, 1, 2)))
    np.testing.assert_allclose(info.std, train.std((0, 1, 2)))


def test_no_digit_is_in_both_splits():
    dataset = sources.load("digits")
    train = {image.tobytes() for image in dataset.examples("train").images}
    assert not any(image.tobytes() in train for image in dataset.examples("test").images)


def test_facts_round_trip():
    for info in (sources.load("digits").info, DatasetInfo("f", ("a",), None, {"train": 1})):
        assert DatasetInfo.from_dict(json.loads(json.dumps(dataclasses.asdict(info)))) == info


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", ("train", 0, 50_000)),
        ("train[:45000]", ("train", 0, 45_000)),
        ("train[45000:]", ("train", 45_000, 50_000)),
        ("train[-5000:]", ("train", 45_000, 50_000)),
        ("train[10%:90%]", ("train", 5_000, 45_000)),
        ("test[:]", ("test", 0, 10_000)),
    ],
)
def test_parts_of_splits(split, expected):
    assert split_range(split, {"train": 50_000, "test": 10_000}) == expected


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("validation", "split must be one of 'train', 'test'; got 'validation'"),
        ("train[5:5]", r"split 'train\[5:5\]' is empty: 'train' has 100 examples"),
        ("train[a:]", r"split must be a name or a part such as 'train\[:90%\]'; got 'train\[a:\]'"),
    ],
)
def test_bad_splits(split, message):
    with pytest.raises(ValueError, match=message):
        split_range(split, {"train": 100, "test": 10})


def test_the_papers_45k_5k_split():
    dataset = sources.load("digits")
    train, held_out = dataset.examples("train[:1000]"), dataset.examples("train[1000:]")
    assert (train.count, held_out.count, dataset.count("train[1000:]")) == (1000, 198, 198)
    both = np.concatenate([train.labels, held_out.labels])
    np.testing.assert_array_equal(both, dataset.examples("train").labels)


def test_synthetic():
    dataset = sources.load("synthetic:24x40x7")
    images = dataset.examples("train").images
    assert images.shape == (1024, 24, 40, 3)
    assert dataset.info.image_size == (24, 40)
    assert len(dataset.info.class_names) == 7
    np.testing.assert_array_equal(images, sources.load("synthetic:24x40x7").examples("train").images)
    with pytest.raises(ValueError, match="must be named synthetic:HEIGHTxWIDTHxCLASSES; got 'synthetic:24'"):
        sources.load("synthetic:24")


def write(path, color=0, size=(20, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), color, "uint8")).save(path)


def test_folders_with_splits_and_odd_names(tmp_path):
    root = tmp_path / "my fotos ü"
    for split in ("train", "val"):
        for number, name in enumerate(("Kätzchen", "dog house")):
            for i in range(3):
                write(root / split / name / "sub folder" / f"bild {i}.{('jpg', 'PNG', 'bmp')[i]}", 50 * number)
        (root / split / "dog house" / "readme.txt").write_text("not an image")
    (root / "notes").mkdir()
    root.chmod(0o555)
    dataset = sources.load(f"folder:{root}")
    assert dataset.info.class_names == ("Kätzchen", "dog house")
    assert dataset.info.splits == {"train": 6, "val": 6}
    assert isinstance(dataset.examples("train"), Files)
    np.testing.assert_array_equal(dataset.examples("val").labels, [0, 1, 0, 1, 0, 1])
    assert dataset.examples("val[4:]").paths[0].endswith("bild 2.bmp")


def test_folders_without_splits(tmp_path):
    write(tmp_path / "a" / "1.png")
    write(tmp_path / "b" / "1.webp")
    assert sources.load(f"folder:{tmp_path}").info.splits == {"train": 2}


def test_bad_folders(tmp_path):
    with pytest.raises(ValueError, match="dataset must name an existing folder after 'folder:'; got '/no/such'"):
        sources.load("folder:/no/such")
    with pytest.raises(ValueError, match="must have one subfolder for each class"):
        sources.load(f"folder:{tmp_path}")
    write(tmp_path / "train" / "a" / "1.png")
    (tmp_path / "train" / "b").mkdir()
    with pytest.raises(ValueError, match=r"class folder '.*b' must hold images"):
        sources.load(f"folder:{tmp_path}")
    write(tmp_path / "train" / "b" / "1.png")
    write(tmp_path / "val" / "c" / "1.png")
    with pytest.raises(ValueError, match=r"has classes \['c'\] that"):
        sources.load(f"folder:{tmp_path}")


def test_arrays():
    images, labels = np.zeros((4, 8, 8, 3), "uint8"), np.arange(4)
    assert sources.from_arrays(images, labels, ("a", "b", "c", "d")).info.splits == {"train": 4}
    with pytest.raises(ValueError, match="labels of 'arrays' must be from 0 to 2; got 3"):
        sources.from_arrays(images, labels, ("a", "b", "c"))
    with pytest.raises(ValueError, match=r"images must be uint8\[N,H,W,3\] and labels \[N\]; got float64"):
        sources.from_arrays(images.astype(float), labels, ("a", "b", "c", "d"))


def test_tensorflow_datasets_of_one_size_come_into_memory(tmp_path, random):
    images = random.integers(0, 256, (30, 12, 12, 1)).astype("uint8")
    store(tmp_path, "small_gray", images, np.arange(30) % 3, 3, (12, 12, 1))
    dataset = sources.load("small_gray", data_dir=str(tmp_path))
    examples = dataset.examples("train")
    assert isinstance(examples, Images)
    assert examples.images.shape == (30, 12, 12, 3)
    assert {image.tobytes() for image in examples.images[..., :1]} == {image.tobytes() for image in images}
    assert dataset.info.mean is None


def test_tensorflow_datasets_of_many_sizes_are_records(tmp_path, random):
    images = [random.integers(0, 256, (10 + i, 20, 3)).astype("uint8") for i in range(12)]
    store(tmp_path, "many_sizes", images, np.arange(12) % 3, 3, (None, None, 3))
    dataset = sources.load("many_sizes", data_dir=str(tmp_path))
    examples = dataset.examples("train")
    assert isinstance(examples, Records)
    assert examples.count == 12
    assert dataset.info.image_size is None
    assert dataset.examples("train[:5]").count == 5


def test_unknown_names(tmp_path):
    with pytest.raises(ValueError, match=r"dataset must be 'digits', .* or a tensorflow-datasets name; got 'nothi"):
        sources.load("nothing")
    with pytest.raises(ValueError, match=r"dataset 'cifar10' is not prepared in .*; set download or data_dir"):
        sources.load("cifar10", data_dir=str(tmp_path))


def test_cifar10_of_tensorflow_datasets(real_data):
    dataset = sources.load("cifar10", data_dir=str(real_data / "tfds"))
    assert dataset.info.splits == {"train": 50_000, "test": 10_000}
    assert dataset.info.class_names[:2] == ("airplane", "automobile")
    test = dataset.examples("test")
    assert test.images.shape == (10_000, 32, 32, 3)
    assert set(np.bincount(test.labels)) == {1000}
    # The stored statistics are those of the training split; the test split's are close.
    assert np.abs(test.images.mean((0, 1, 2)) - dataset.info.mean).max() < 2


def test_a_part_of_a_folder_has_each_class_in_its_share(tmp_path):
    for name, count in (("a", 10), ("b", 20)):
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{number:02}.png").write_bytes(b"")
    dataset = sources.load(f"folder:{tmp_path}")
    labels = dataset.examples("train[:60%]").labels
    assert np.bincount(labels).tolist() == [6, 12]
    assert sorted(dataset.examples("train").paths) == sorted(map(str, tmp_path.rglob("*.png")))
