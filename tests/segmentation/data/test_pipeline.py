"""Batches for training and evaluation: pure functions of seed and step, and wrong files by name."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.data.transforms import WholeImageTransform
from keras_resnet.errors import InputError
from keras_resnet.ops import graph_errors
from keras_resnet.segmentation.data import pipeline, sources, survey
from keras_resnet.segmentation.data.transforms import TrainTransform
from tests.segmentation import sets
from tests.segmentation.sets import save, scene

MEAN, STD = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
TRAIN = TrainTransform(MEAN, STD, crop_size=(20, 24))
EVAL = WholeImageTransform(MEAN, STD)
CLASSES = ("red", "green", "blue")


@pytest.fixture
def root(tmp_path):
    return sets.two_folders(tmp_path / "set", {"train": 5, "val": 3})


def examples(root, split="train"):
    return sources.load(f"folder:{root}").examples(split)


def batches(root, count, **options):
    stream = pipeline.train(examples(root), 2, TRAIN, **options)
    return [tuple(part.numpy() for part in batch) for batch in stream.take(count)]


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_stream_can_start_at_any_step(root):
    whole = batches(root, 8, seed=3)
    assert whole[0][0].shape == (2, 20, 24, 3)
    assert (whole[0][1].shape, whole[0][1].dtype) == ((2, 20, 24), np.int32)
    assert_same(batches(root, 3, seed=3, start_step=5), whole[5:])
    assert not np.array_equal(batches(root, 1, seed=4)[0][0], whole[0][0])


def test_workers_share_each_batch(root):
    whole = batches(root, 3)
    for worker in (0, 1):
        context = tf.distribute.InputContext(2, worker, 2)
        part = [tuple(value[worker : worker + 1] for value in batch) for batch in whole]
        assert_same(batches(root, 3, context=context), part)


def test_each_epoch_has_every_image_once(root):
    """The first pixels of crops at scale 1 tell the images apart."""
    for number in range(5):
        save(root / f"images/train/x{number}.png", np.full((24, 32, 3), 40 * number, "uint8"))
    whole = TrainTransform((0.0,) * 3, (1.0,) * 3, crop_size=(24, 32), scale_range=(1.0, 1.0))
    stream = pipeline.train(examples(root), 1, whole)
    order = [int(images[0, 0, 0, 0]) // 40 for images, _ in stream.take(15)]
    assert [sorted(order[start : start + 5]) for start in (0, 5, 10)] == [[0, 1, 2, 3, 4]] * 3
    assert len({tuple(order[start : start + 5]) for start in (0, 5, 10)}) > 1


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_evaluation_sees_each_image_once_at_its_own_size(root, batch_size):
    save(root / "images/val/x1.png", scene(1, (10, 12))[0])
    save(root / "masks/val/x1.png", scene(1, (10, 12))[1])
    seen = {}
    for indices, images, labels in pipeline.evaluate(examples(root, "val"), EVAL, batch_size):
        assert len(indices) == len(images) == len(labels) <= batch_size
        seen |= dict(zip(indices.tolist(), zip(images.numpy(), labels.numpy(), strict=True), strict=True))
    assert sorted(seen) == [0, 1, 2]
    for number, (image, label) in seen.items():
        pixels, expected = scene(number, (10, 12) if number == 1 else (24, 32))
        np.testing.assert_array_equal(label, expected)
        np.testing.assert_allclose(image, (pixels - np.float32(MEAN)) / np.float32(STD), atol=1e-5)


WRONG = {
    "size": (np.zeros((24, 31), "uint8"), r"mask '?.*x0.png'? has 24x31 pixels \(height x width\), but its image"),
    "value": (np.full((24, 32), 3, "uint8"), "x0.png' has the value 3"),
    "RGB": (scene(0)[0], "x0.png' is an RGB image"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_masks_are_named_everywhere(root, fault):
    mask, message = WRONG[fault]
    for split in ("train", "val"):
        save(root / f"masks/{split}/x0.png", mask)
    with pytest.raises(InputError, match=message):
        survey.survey(examples(root), CLASSES, "train")
    with pytest.raises(InputError, match=message):
        list(pipeline.evaluate(examples(root, "val"), EVAL))
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        batches(root, 3)
    assert "x0.png" in graph_errors.message_of(caught.value)


def test_broken_images_are_replaced_up_to_a_share(root, caplog):
    (root / "images/train/x2.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 40)
    assert len(batches(root, 5, max_broken=0.2)) == 5
    assert [record.getMessage() for record in caplog.records if "x2.png" in record.getMessage()]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"1 file cannot be decoded, more than max_broken allows"):
        batches(root, 5)
    (root / "images/val/x1.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"x1.png' is empty|x1.png is missing, damaged"):
        list(pipeline.evaluate(examples(root, "val"), EVAL))


@pytest.mark.parametrize("batch_size", [0, 6])
def test_the_batch_must_fit_the_split(root, batch_size):
    with pytest.raises(InputError, match=f"batch_size must be from 1 to the 5 training images; got {batch_size}"):
        pipeline.train(examples(root), batch_size, TRAIN)


def test_a_survey_counts_pixels_by_hand(root, caplog):
    for number in range(5):
        save(root / f"masks/train/x{number}.png", np.full((24, 32), 255, "uint8"))
    label = np.zeros((24, 32), "uint8")
    label[0], label[1, :5] = 255, 1
    save(root / "masks/train/x1.png", label)
    found = survey.survey(examples(root), CLASSES, "train")
    assert found.pixels.tolist() == [23 * 32 - 5, 5, 0]
    assert found.image_pixels.tolist() == [23 * 32, 23 * 32, 0]
    assert found.ignored == 4 * 24 * 32 + 32
    assert "split train has no pixel of blue" in caplog.text
    save(root / "masks/train/x1.png", np.full((24, 32), 255, "uint8"))
    with pytest.raises(InputError, match="split 'train' must have pixels with a class; all of its masks are to be ign"):
        survey.survey(examples(root), CLASSES, "train")


def test_two_classes_need_more_than_0_and_255():
    make = functools.partial(survey.Survey, image_pixels=np.array([9, 0]))
    with pytest.raises(InputError, match="--label_values=0,255 makes it the class 'cat'"):
        survey.check_two_classes(make(pixels=np.array([9, 0]), ignored=3), ("no", "cat"), "train")
    survey.check_two_classes(make(pixels=np.array([9, 1]), ignored=3), ("no", "cat"), "train")


def test_orientation_of_photos(tmp_path):
    pixels = np.zeros((24, 32, 3), "uint8")
    from PIL import Image

    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    image.save(tmp_path / "images/a.jpg", exif=exif)
    save(tmp_path / "masks/a.png", np.zeros((32, 24), "uint8"))
    with pytest.raises(InputError, match="its EXIF orientation swaps them: give --exif"):
        survey.survey(examples(tmp_path), ("0",), "train")
    survey.survey(examples(tmp_path), ("0",), "train", exif=True)
    ((_, images, labels),) = pipeline.evaluate(examples(tmp_path), WholeImageTransform(MEAN, STD, exif=True))
    assert images.shape[1:3] == labels.shape[1:] == (32, 24)
