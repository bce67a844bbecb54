"""Batches: exact, repeatable, and unmoved by broken files."""

import itertools
import logging
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet.data import pipeline, sources, statistics
from keras_resnet.data.dataset import Dataset, Files
from keras_resnet.data.transforms import EvalTransform, TrainTransform
from keras_resnet.errors import InputError
from tests.conftest import KERAS_2
from tests.data.samples import store
from tests.photos import photos
from tests.serving.sources import encoded

MEAN, STD = (100.0,) * 3, (50.0,) * 3
LAYERS = {} if KERAS_2 else {"rand_augment": 0.5, "random_erase_prob": 0.5, "mixup": 0.2, "cutmix": 1.0}
EVERYTHING = {"pca_noise": 0.1, **LAYERS, "classes": 10}


def take(batches, count):
    return [tuple(part.numpy() for part in batch) for batch in itertools.islice(batches, count)]


def same(one, two):
    return all(np.array_equal(a, b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return photos(tmp_path_factory.mktemp("photos"), 50)


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    random = np.random.default_rng(2)
    images = [random.integers(0, 256, (40 + i % 9, 45, 3)).astype("uint8") for i in range(50)]
    store(root, "stream_set", images, np.arange(50) % 10, 10, (None, None, 3))
    return sources.load("stream_set", data_dir=str(root))


@pytest.fixture(params=["digits", "folder", "stream"])
def dataset(request, folder, stream):
    """A data set of each form."""
    return {"digits": sources.load("digits"), "folder": folder, "stream": stream}[request.param]


SOURCES = ("digits", "folder", "stream", "cached folder", "cached stream")


@pytest.fixture(params=SOURCES)
def source(request, folder, stream):
    """A data set of each form, and the options of its pipeline."""
    dataset = {"digits": sources.load("digits"), "folder": folder, "stream": stream}[request.param.split()[-1]]
    return dataset, {"cache": "memory"} if "cached" in request.param else {}


@pytest.mark.parametrize("dataset", ["digits", "folder"], indirect=True)
def test_batches_have_static_shapes_and_types(dataset):
    for transform, labels in (
        (TrainTransform((32, 32), MEAN, STD), (16,)),
        *([] if KERAS_2 else [(TrainTransform((32, 32), MEAN, STD, mixup=0.2, classes=10), (16, 10))]),
        (TrainTransform((24, 24), MEAN, STD, crop="inception"), (16,)),
        (TrainTransform((32, 32), MEAN, STD, crop="scale", scale_range=(33, 48)), (16,)),
    ):
        batches = pipeline.train(dataset, 16, transform)
        image_spec, label_spec = batches.element_spec
        assert image_spec.shape == (16, *transform.size, 3)
        assert label_spec.shape == labels
        images, label = next(iter(batches))
        assert images.dtype == tf.float32
        assert np.isfinite(images).all()
        if len(labels) == 2:
            np.testing.assert_allclose(label.numpy().sum(1), 1, atol=1e-5)


def steps_of(dataset):
    """Steps of 8 images: of the batch that goes over the end of the first epoch, and within the third epoch."""
    epoch = dataset.count("train") // 8
    return epoch, 2 * epoch + 5


def starts_anywhere(dataset, transform, steps, **options):
    whole = take(pipeline.train(dataset, 8, transform, seed=3, **options), max(steps) + 2)
    for k in steps:
        assert same(
            take(pipeline.train(dataset, 8, transform, seed=3, start_step=k, **options), 2), whole[k : k + 2]
        ), k
    return whole


def test_a_pipeline_can_start_at_any_step(source):
    dataset, options = source
    transform = TrainTransform((32, 32), MEAN, STD, crop="inception", pca_noise=0.1)
    whole = starts_anywhere(dataset, transform, steps_of(dataset), **options)
    if not options:
        assert not same(take(pipeline.train(dataset, 8, transform, seed=4), 1), whole[:1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", pytest.param("folder", marks=pytest.mark.soak)])
def test_a_pipeline_can_start_at_any_step_with_all_augmentations_on(name, folder):
    dataset = folder if name == "folder" else sources.load("digits")
    starts_anywhere(dataset, TrainTransform((32, 32), MEAN, STD, **EVERYTHING), (6,))


@pytest.mark.parametrize("name", ["cached folder", "stream"])
def test_the_global_seed_changes_nothing(name, folder, stream):
    """Training sets it; with 0, TensorFlow could not compare it with the seed of the order."""
    dataset = stream if name == "stream" else folder
    transform = TrainTransform((16, 16), (0.0,) * 3, (1.0,) * 3, crop="center")
    taken = []
    try:
        for seed in (0, 7):
            tf.random.set_seed(seed)
            taken.append(take(pipeline.train(dataset, 4, transform, cache="memory"), 5))
    finally:
        tf.random.set_seed(None)
    assert same(*taken)


def test_two_processes_yield_the_same_batches():
    code = (
        "import itertools; from keras_resnet.data import pipeline, sources;"
        "from keras_resnet.data.transforms import TrainTransform;"
        f"transform = TrainTransform((32, 32), {MEAN}, {STD}, **{EVERYTHING});"
        "batches = pipeline.train(sources.load('digits'), 16, transform, seed=9);"
        "parts = [part.numpy().tobytes() for batch in itertools.islice(batches, 3) for part in batch];"
        "import sys; sys.stdout.buffer.write(b''.join(parts))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    batches = pipeline.train(sources.load("digits"), 16, TrainTransform((32, 32), MEAN, STD, **EVERYTHING), seed=9)
    assert output == b"".join(part.tobytes() for batch in take(batches, 3) for part in batch)


@pytest.mark.parametrize("source", SOURCES[:-1], indirect=True)
def test_each_epoch_is_a_permutation_of_the_split(source):
    """Batches run on over the end of an epoch; every image comes once before one comes twice."""
    dataset, options = source
    count = dataset.count("train")
    if dataset.info.name == "digits":
        positions = tf.range(3 * count, dtype=tf.int64)
        index = np.concatenate([pipeline.epoch_index(part, count, 5, True) for part in tf.split(positions, 2 * 3)])
    else:
        records = pipeline._records(
            dataset.examples("train"), pipeline.Share(7), seed=5, shuffle=True, cache=options.get("cache", "")
        )
        names = np.concatenate([batch[3].numpy() for batch in records.take(3 * count // 7 + 1)])
        index = names[: 3 * count]
    epochs = [index[i * count : (i + 1) * count] for i in range(3)]
    assert all(len(set(epoch)) == count for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0], sorted(epochs[0]))


def test_shuffling_is_uniform_enough():
    """The first place of an epoch holds each of ten images about as often."""
    index = tf.function(lambda place: pipeline.epoch_index(place, 10, 1, True)[0])
    first = [int(index(tf.constant([e * 10], tf.int64))) for e in range(2000)]
    counts = np.bincount(first, minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-squared, 9 degrees of freedom, 0.1 %


def test_evaluation_sees_each_image_once(dataset):
    count = dataset.count("train")
    transform = EvalTransform((32, 32), MEAN, STD, 0 if dataset.info.image_size else 36)
    for size, pad in ((1, False), (16, True), (count + 1, False)):
        stream = pipeline.evaluate(dataset, size, transform, split="train", pad_batches=pad, with_index=True)
        assert int(stream.cardinality()) == -(-count // size)
        batches = take(stream, None)
        assert len(batches) == -(-count // size)
        index = np.concatenate([batch[-1] for batch in batches])
        weights = np.concatenate([batch[2] for batch in batches]) if pad else np.ones(len(index))
        np.testing.assert_array_equal(index[weights > 0], np.arange(count))
        if pad:
            assert len(index) == -(-count // size) * size


def test_10000_images_on_replicas_and_workers(two_replicas):
    """128 a batch: 10,000 distinct indices on one replica, two replicas, and two workers."""
    images = np.zeros((10_000, 2, 2, 3), "uint8")
    dataset = sources.from_arrays(images, np.zeros(10_000, int), ("a",))
    transform = EvalTransform((2, 2), MEAN, STD)

    def evaluate(context=None):
        return pipeline.evaluate(dataset, 128, transform, split="train", with_index=True, context=context)

    one = np.concatenate([batch[-1].numpy() for batch in evaluate()])
    distributed = two_replicas.experimental_distribute_dataset(evaluate())
    parts = [two_replicas.experimental_local_results(batch[-1]) for batch in distributed]
    two = np.concatenate([part.numpy() for batch in parts for part in batch])
    workers = []
    for worker in range(2):
        batches = list(evaluate(tf.distribute.InputContext(2, worker, 2)))
        assert len(batches) == 79
        workers += [index.numpy()[weight.numpy() > 0] for _, _, weight, index in batches]
    for index in (one, two, np.concatenate(workers)):
        assert len(index) == 10_000
        assert set(index) == set(range(10_000))


def test_cifar10_test_images_on_replicas_and_workers(real_data, two_replicas):
    dataset = sources.load("cifar10", data_dir=str(real_data / "tfds"))
    transform = EvalTransform((32, 32), dataset.info.mean, dataset.info.std)
    batches = pipeline.evaluate(dataset, 128, transform, with_index=True)
    distributed = two_replicas.experimental_distribute_dataset(batches)
    parts = [two_replicas.experimental_local_results(batch[-1]) for batch in distributed]
    two = np.concatenate([part.numpy() for batch in parts for part in batch])
    workers = [
        index.numpy()[weight.numpy() > 0]
        for worker in range(2)
        for _, _, weight, index in pipeline.evaluate(
            dataset, 128, transform, with_index=True, context=tf.distribute.InputContext(2, worker, 2)
        )
    ]
    one = np.concatenate([batch[-1].numpy() for batch in batches])
    for index in (one, two, np.concatenate(workers)):
        assert len(index) == len(set(index)) == 10_000


@pytest.mark.parametrize("source", SOURCES[:-1], indirect=True)
def test_workers_share_the_batches_of_one(source):
    dataset, options = source
    transform = TrainTransform((32, 32), MEAN, STD, pad=0, mirror=False)
    whole = take(pipeline.train(dataset, 8, transform, seed=1, start_step=4, **options), 3)
    parts = [
        take(
            pipeline.train(
                dataset, 8, transform, seed=1, start_step=4, context=tf.distribute.InputContext(2, w, 2), **options
            ),
            3,
        )
        for w in range(2)
    ]
    joined = [tuple(np.concatenate(pair) for pair in zip(*both, strict=True)) for both in zip(*parts, strict=True)]
    assert same(whole, joined)


def test_the_papers_view_by_hand(folder):
    """Without augmentation, a training image of a folder is the file resized, normalized."""
    transform = TrainTransform((32, 32), MEAN, STD, crop="center", mirror=False, antialias=True)
    images, labels = take(pipeline.train(folder, 1, transform, shuffle=False), 1)[0]
    path = folder.examples("train").paths[0]
    picture = Image.open(path)
    width, height = (side * 32 // min(picture.size) for side in picture.size)
    resized = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), "float32")
    top, left = round((height - 32) / 2), round((width - 32) / 2)
    expected = (resized[top : top + 32, left : left + 32] - 100) / 50
    assert np.abs(images[0] - expected).mean() < 0.04
    assert labels.tolist() == [0]


def test_exif_orientation_is_a_switch():
    pixels = np.zeros((32, 32, 3), "uint8")
    pixels[:16] = 200
    exif = Image.Exif()
    exif[0x0112] = 6
    contents = tf.constant(encoded(pixels, "JPEG", exif=exif))
    for exif, bright in ((False, np.s_[:12]), (True, np.s_[:, 20:])):
        train = TrainTransform((32, 32), MEAN, STD, crop="center", mirror=False, exif=exif)
        for image in (
            train.decode(contents, tf.constant([0, 0])),
            EvalTransform((32, 32), MEAN, STD, 32, exif).decode(contents),
        ):
            assert image.numpy()[bright].min() > 175


def planted(folder, broken, count, seed=0):
    """Overwrite some files of a folder with a cut JPEG, text, or nothing."""
    paths = np.random.default_rng(seed).choice(folder.examples("train").paths, count, replace=False)
    for number, path in enumerate(paths):
        with open(path, "rb") as file:
            contents = file.read()
        with open(path, "wb") as file:
            file.write((contents[: len(contents) // 2], b"junk", b"")[number % 3])
    broken.update(paths)


def test_6_broken_files_of_600(tmp_path, caplog):
    dataset = photos(tmp_path / "many", 600, side=16)
    expected = set()
    planted(dataset, expected, 6)
    transform = TrainTransform((16, 16), MEAN, STD)
    broken = pipeline.BrokenFiles(600, 0.01)
    with caplog.at_level(logging.WARNING):
        for images, _ in pipeline.train(dataset, 100, transform, broken=broken).take(6):  # one epoch
            assert images.shape == (100, 16, 16, 3)
    assert broken.names == expected
    assert sum("cannot be decoded" in record.message for record in caplog.records) == 6
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"3 files cannot be decoded, more than max_broken allows"):
        for _ in pipeline.train(dataset, 10, transform, max_broken=0.004).take(60):
            pass


def test_in_place_of_a_broken_file_stands_another_of_its_batch(tmp_path):
    dataset = photos(tmp_path, 8)
    expected = set()
    planted(dataset, expected, 3)
    transform = TrainTransform((32, 32), MEAN, STD, crop="center", mirror=False)
    images, _ = take(pipeline.train(dataset, 8, transform, max_broken=1.0), 1)[0]
    assert len({image.tobytes() for image in images}) == 5
    again = take(pipeline.train(dataset, 8, transform, max_broken=1.0), 1)[0]
    np.testing.assert_array_equal(images, again[0])


def test_no_image_of_a_batch(tmp_path):
    dataset = photos(tmp_path, 2)
    planted(dataset, set(), 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="no image of a batch can be decoded"):
        take(pipeline.train(dataset, 2, TrainTransform((32, 32), MEAN, STD), max_broken=1.0), 1)


def test_in_evaluation_a_broken_or_missing_file_is_an_error_that_names_it(tmp_path):
    dataset = photos(tmp_path, 9)
    paths = dataset.examples("train").paths
    transform = EvalTransform((32, 32), MEAN, STD, 36)
    with open(paths[4], "wb") as file:
        file.write(b"\xff\xd8\xff")
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{paths[4]} cannot be decoded"):
        take(pipeline.evaluate(dataset, 4, transform, split="train"), None)
    (tmp_path / paths[4]).unlink()
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{paths[4]} cannot be decoded"):
        take(pipeline.evaluate(dataset, 4, transform, split="train"), None)


def test_large_images_count_as_broken(folder):
    with pytest.raises(tf.errors.InvalidArgumentError, match="cannot be decoded"):
        take(pipeline.evaluate(folder, 4, EvalTransform((32, 32), MEAN, STD, 36), split="train", max_pixels=100), 1)


def test_an_image_smaller_than_the_crop_is_an_error(folder):
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="has 40x43 pixels, fewer than the crop of 64x64; set resize"
    ):
        take(pipeline.evaluate(folder, 4, EvalTransform((64, 64), MEAN, STD), split="train"), 1)


def test_labels_out_of_range_are_an_error(folder):
    examples = folder.examples("train")
    wrong = Files(examples.paths, examples.labels + 1)
    dataset = Dataset(folder.info, lambda _: wrong)
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels must be from 0 to 1; got 2"):
        take(pipeline.train(dataset, 8, TrainTransform((32, 32), MEAN, STD)), 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 1199}, "batch_size must be from 1 to the 1198 images of 'train'; got 1199"),
        ({"batch_size": 0}, "batch_size must be from 1"),
        (
            {"batch_size": 9, "context": tf.distribute.InputContext(2, 0, 2)},
            "batch_size must be a multiple of the 2 workers; got 9",
        ),
        ({"batch_size": 9, "split": "val"}, "split must be one of 'train', 'test'; got 'val'"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        pipeline.train(sources.load("digits"), transform=TrainTransform((32, 32), MEAN, STD), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "random"}, "crop must be one of 'pad', 'scale', 'inception', 'center'; got 'random'"),
        (
            {"crop": "scale", "scale_range": (200, 480)},
            r"scale_range must increase from at least the crop, 224; got \(200, 480\)",
        ),
        ({"rand_augment": 2.0}, "rand_augment must be from 0 to 1; got 2.0"),
        ({"mixup": -1.0}, "mixup must not be negative"),
        *([] if KERAS_2 else [({"mixup": 1.0}, "classes must be at least 1 where labels are mixed")]),
    ],
)
def test_bad_views(options, message):
    with pytest.raises(ValueError, match=message):
        TrainTransform((224, 224), MEAN, STD, **options)


def test_resize_must_hold_the_crop():
    with pytest.raises(ValueError, match="resize must be at least the crop, 224, or 0; got 200"):
        EvalTransform((224, 224), MEAN, STD, 200)


def test_statistics(folder):
    dataset = sources.load("digits")
    images = dataset.examples("train").images.astype("float64")
    mean, std = statistics.pixel_statistics(dataset, EvalTransform((32, 32), MEAN, STD), progress=False)
    np.testing.assert_allclose(mean, images.mean(0), atol=1e-3)
    np.testing.assert_allclose(std, images.std((0, 1, 2)), atol=1e-3)
    mean, std = statistics.pixel_statistics(folder, EvalTransform((32, 32), MEAN, STD, 32), progress=False)
    assert mean.shape == (32, 32, 3)
    assert 0 < std[0] < 100


PLAIN = {"pad": 0, "mirror": False, "classes": 2}


@pytest.fixture(scope="module")
def plain(folder):
    """The images of the first batch without any of the switches below."""
    return take(pipeline.train(folder, 16, TrainTransform((24, 24), MEAN, STD, **PLAIN)), 1)[0][0]


@pytest.mark.parametrize("name", ["pca_noise", *LAYERS, "pad", "mirror", "scale_range", "antialias"])
def test_every_switch_of_the_view_does_something(name, plain, folder):
    on = {
        "pca_noise": {"pca_noise": 0.1},
        "rand_augment": {"rand_augment": 0.5},
        "random_erase_prob": {"random_erase_prob": 1.0},
        "mixup": {"mixup": 0.5},
        "cutmix": {"cutmix": 1.0},
        "pad": {"pad": 4},
        "mirror": {"mirror": True},
        "scale_range": {"crop": "scale", "scale_range": (32, 64)},
        "antialias": {"antialias": True},
    }[name]
    other = take(pipeline.train(folder, 16, TrainTransform((24, 24), MEAN, STD, **{**PLAIN, **on})), 1)
    assert not np.array_equal(plain, other[0][0])


@pytest.mark.skipif(KERAS_2, reason="RandomErasing is a layer of Keras 3")
@pytest.mark.parametrize("share", [0.1, 1.0])
def test_the_share_of_erased_images(share):
    images = np.full((400, 16, 16, 3), 255, "uint8")
    dataset = sources.from_arrays(images, np.zeros(400, "int32"), ("a",))
    transform = TrainTransform((16, 16), (0.0,) * 3, (100.0,) * 3, crop="center", mirror=False, random_erase_prob=share)
    shown = np.concatenate([batch for batch, _ in take(pipeline.train(dataset, 100, transform), 10)])
    erased = np.mean((shown == 0).any((1, 2, 3)))
    # Three standard deviations of a share of 1,000; a part smaller than a pixel erases nothing.
    assert share - 3 * np.sqrt(share * (1 - share) / 1000) - 0.02 <= erased <= share + 0.03


@pytest.mark.skipif(KERAS_2, reason="CutMix is a layer of Keras 3")
def test_the_shares_of_cutmix_are_uniform():
    images = np.zeros((64, 32, 32, 3), "uint8")
    dataset = sources.from_arrays(images, np.arange(64), tuple(map(str, range(64))))
    transform = TrainTransform((32, 32), (0.0,) * 3, (1.0,) * 3, crop="center", mirror=False, cutmix=1.0, classes=64)
    largest = np.concatenate([labels.max(1) for _, labels in take(pipeline.train(dataset, 64, transform), 30)])
    # The larger one of two shares that are Beta(1, 1): uniform from a half to 1.
    assert largest.mean() == pytest.approx(0.75, abs=0.06)
    assert np.mean(largest > 0.95) < 0.25


@pytest.mark.skipif(KERAS_2, reason="RandAugment is a layer of Keras 3")
def test_images_in_memory_have_operations_of_their_own():
    image = np.random.default_rng(0).integers(0, 256, (1, 24, 24, 3), "uint8")
    dataset = sources.from_arrays(np.repeat(image, 16, 0), np.zeros(16, "int32"), ("a",))
    transform = TrainTransform((24, 24), MEAN, STD, crop="center", mirror=False, rand_augment=0.6, rand_augment_ops=1)
    ((shown, _),) = take(pipeline.train(dataset, 16, transform), 1)
    assert len({one.tobytes() for one in shown}) > 8


def test_images_in_memory_are_tested_as_they_are_served(tmp_path, random):
    images = random.integers(0, 256, (4, 20, 24, 3)).astype("uint8")
    for resize in (32, 40):
        transform = EvalTransform((32, 32), MEAN, STD, resize)
        for pixels, tested in zip(images, transform.batch(tf.constant(images)), strict=True):
            served = transform.batch(transform.decode(tf.io.encode_png(pixels))[None])
            np.testing.assert_allclose(tested, served[0], atol=1e-4)


def test_a_cache_is_that_of_its_images(folder, tmp_path):
    transform = TrainTransform((16, 16), MEAN, STD, pad=0, mirror=False)
    for dataset, split in ((folder, "train"), (folder.pick("train", range(49, -1, -1)), "picked")):
        plain = take(pipeline.train(dataset, 50, transform, split=split, shuffle=False), 2)
        for _ in range(2 if split == "train" else 1):
            cached = pipeline.train(dataset, 50, transform, split=split, shuffle=False, cache=f"{tmp_path}/cache")
            assert same(plain, take(cached, 2))
    assert len(list(tmp_path.glob("cache.*.index"))) == 2
    for index in tmp_path.glob("cache.*.index"):
        index.unlink()
        index.with_name(f"{index.name.removesuffix('.index')}_0.lockfile").touch()
    with pytest.raises(
        InputError, match=r"cache '.*/cache' is being written by another run, or a killed run left it incomplete"
    ):
        pipeline.train(folder, 50, transform, cache=f"{tmp_path}/cache")


def test_mixing_by_hand():
    """Each image has the gray level of its mixed label; CutMix rounds its window to pixels afterwards."""
    images = np.stack([np.full((16, 16, 3), 10 * i, "uint8") for i in range(8)])
    dataset = sources.from_arrays(images, np.arange(8), tuple("abcdefgh"))
    for options, tolerance in (({"mixup": 1.0}, 0.01), ({"cutmix": 1.0}, 5.0)):
        transform = TrainTransform((16, 16), (0.0,) * 3, (1.0,) * 3, crop="center", mirror=False, classes=8, **options)
        mixed, labels = take(pipeline.train(dataset, 8, transform), 1)[0]
        np.testing.assert_allclose(mixed.mean((1, 2, 3)), labels @ (10.0 * np.arange(8)), atol=tolerance)
        assert (np.count_nonzero(labels, axis=1) <= 2).all()
