"""Crops and scales against plain NumPy and Pillow."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet.data import pipeline, sources
from keras_resnet.data.transforms import DenseTransform, EvalTransform, TenCropTransform
from keras_resnet.evaluation import protocols
from keras_resnet.ops import windows

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def five_by_hand(pixels, height, width):
    """The crops of an image that has its size already."""
    top, left = round((pixels.shape[0] - height) / 2), round((pixels.shape[1] - width) / 2)
    return np.stack(
        [
            pixels[:height, :width],
            pixels[:height, -width:],
            pixels[-height:, :width],
            pixels[-height:, -width:],
            pixels[top : top + height, left : left + width],
        ]
    )


@pytest.mark.parametrize("size", [(9, 13), (8, 8), (10, 8)])
def test_five_crops(random, size):
    images = random.integers(0, 256, (3, *size, 3)).astype("uint8")
    expected = np.stack([five_by_hand(image, 8, 6) for image in images])
    np.testing.assert_array_equal(windows.five_crops(tf.constant(images), (8, 6)), expected)
    in_map = tf.data.Dataset.from_tensors(images).map(lambda x: windows.five_crops(x, (8, 6)))
    np.testing.assert_array_equal(next(iter(in_map)), expected)


@pytest.mark.parametrize("size", [(50, 40), (33, 61)])
def test_ten_crops_of_a_file(random, size):
    pixels = random.integers(0, 256, (*size, 3)).astype("uint8")
    transform = TenCropTransform((24, 24), MEAN, STD, resize=28)
    crops = transform.decode(png(pixels))
    height, width = (side * 28 // min(size) for side in size)
    whole = np.asarray(tf.image.resize(pixels, (height, width), antialias=True))
    np.testing.assert_allclose(crops, five_by_hand(whole, 24, 24), atol=1e-3)
    ten = transform.batch(crops[None])
    assert ten.shape == (1, 10, 24, 24, 3)
    expected = (np.asarray(crops) - MEAN) / STD
    np.testing.assert_allclose(ten[0, :5], expected, atol=1e-5)
    np.testing.assert_allclose(ten[0, 5:], expected[:, :, ::-1], atol=1e-5)
    # The last of five is what the single view shows.
    single = EvalTransform((24, 24), MEAN, STD, resize=28).decode(png(pixels))
    np.testing.assert_allclose(crops[4], single, atol=1e-2)


def test_ten_crops_in_memory_are_those_of_files(random):
    pixels = random.integers(0, 256, (36, 36, 3)).astype("uint8")
    transform = TenCropTransform((24, 24), MEAN, STD, resize=28)
    dataset = sources.from_arrays(pixels[None], [0], ("a",))
    ((memory, _),) = pipeline.evaluate(dataset, 4, transform, split="train")
    np.testing.assert_allclose(memory, transform.batch(transform.decode(png(pixels))[None]), atol=1e-4)


def test_dense_view_is_the_whole_image(random, tmp_path):
    sizes = [(40, 60), (70, 50), (40, 60)]
    (tmp_path / "a").mkdir()
    for number, size in enumerate(sizes):
        pixels = random.integers(0, 256, (*size, 3)).astype("uint8")
        (tmp_path / "a" / f"{number}.png").write_bytes(png(pixels))
    dataset = sources.load(f"folder:{tmp_path}")
    transform = DenseTransform((32, 32), MEAN, STD, resize=36, mirror=True)
    batches = list(pipeline.evaluate(dataset, 1, transform, split="train"))
    assert [images.shape for images, _ in batches] == [(1, 2, 36, 54, 3), (1, 2, 50, 36, 3), (1, 2, 36, 54, 3)]
    last = batches[-1][0][0]
    np.testing.assert_array_equal(last[1], last[0].numpy()[:, ::-1])
    expected = (np.asarray(tf.image.resize(pixels, (36, 54), antialias=True)) - MEAN) / STD
    np.testing.assert_allclose(last[0], expected, atol=1e-4)
    with pytest.raises(ValueError, match="batch_size must be 1 for whole images of different sizes"):
        pipeline.evaluate(dataset, 2, transform, split="train")


def test_protocols():
    transform = EvalTransform((32, 32), MEAN, STD, resize=36)
    assert protocols.views("single", transform) == [transform]
    (ten,) = protocols.views("ten_crop", transform)
    assert (ten.views, ten.shape, ten.resize) == (10, (5, 32, 32, 3), 36)
    scales = protocols.views("multi_scale", transform, mirror=True)
    assert [one.resize for one in scales] == [224, 256, 384, 480, 640]
    assert all(one.views == 2 for one in scales)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("many",), "views must be one of 'single', 'ten_crop', 'multi_scale'"),
        (("multi_scale", (64, 31)), "scales must be at least 32 pixels; got 31"),
        (("multi_scale", ()), "scales must have at least one"),
    ],
)
def test_protocols_refuse(arguments, message):
    protocol, *rest = arguments
    with pytest.raises(ValueError, match=message):
        protocols.views(protocol, EvalTransform((32, 32), MEAN, STD, resize=36), *rest)


def test_ten_crops_need_room():
    with pytest.raises(ValueError, match="resize must be above the crop"):
        protocols.views("ten_crop", EvalTransform((32, 32), MEAN, STD, resize=32))


def test_dense_views_refuse_a_mean_of_each_pixel():
    with pytest.raises(ValueError, match="mean of each channel"):
        DenseTransform((32, 32), np.zeros((32, 32, 3)), STD, resize=64)


def test_files_smaller_than_the_view_are_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "small.png").write_bytes(png(np.zeros((20, 30, 3), "uint8")))
    batches = pipeline.evaluate(
        sources.load(f"folder:{tmp_path}"), 1, EvalTransform((24, 24), MEAN, STD), split="train"
    )
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"small.png has 20x30 pixels, fewer than the crop of 24x24; set resize"
    ):
        list(batches)


def test_views_larger_than_the_image():
    with pytest.raises(tf.errors.InvalidArgumentError, match="smaller than the crop"):
        TenCropTransform((24, 24), MEAN, STD).decode(png(np.zeros((20, 30, 3), "uint8")))
