"""Files against Pillow: formats, parts, orientation, and damaged or hostile contents."""

import io
import itertools
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from keras_resnet.errors import InputError
from keras_resnet.ops import codecs, image, windows
from tests.conftest import KERAS_2, READABLE
from tests.ops.samples import both_ways, encoded, smooth


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("mirror", [False, True])
def test_decoding_a_window_equals_decoding_all(format, antialias, mirror):
    contents = encoded(smooth(300, 400), format)
    pixels = codecs.decode(contents)
    for window in ([0, 0, 300, 300], [31, 77, 200, 150], [200, 300, 100, 100]):
        part = codecs.decode_window(
            contents, [300, 400], window, (64, 64), antialias=antialias, mirrored=tf.constant(mirror)
        )
        if antialias:
            whole = image.resize_window(pixels, tf.constant(window), (64, 64)).numpy()
        else:
            top, left, height, width = window
            whole = tf.image.resize(pixels[top : top + height, left : left + width], (64, 64)).numpy()
        np.testing.assert_allclose(part, whole[:, ::-1] if mirror else whole, atol=0.05)


@pytest.mark.parametrize("ratio", [2, 4, 8])
def test_scaled_decoding_is_close_to_the_full_decode(ratio):
    """The bound that docs/data.md states, on waves of a few pixels after shrinking."""
    side = 64 * ratio
    large = np.asarray(Image.fromarray(smooth(96, 96)).resize((96 * ratio, 96 * ratio), Image.Resampling.BICUBIC))
    contents = encoded(large, "JPEG", quality=95)
    size, window = [96 * ratio] * 2, [10 * ratio, 20 * ratio, side, side]
    full = codecs.decode_window(contents, size, window, (64, 64))
    scaled = codecs.decode_window(contents, size, window, (64, 64), scaled_decoding=True)
    assert np.any(full != scaled)
    assert np.abs(full - scaled).mean() < 2.0


def test_scaled_decoding_on_photographs(real_data):
    differences = []
    for path in sorted((real_data / "imagenet_sample").iterdir()):
        contents = path.read_bytes()
        size = codecs.dimensions(contents)
        window = windows.center_window(size, 64, 64)
        full = codecs.decode_window(contents, size, window, (64, 64))
        scaled = codecs.decode_window(contents, size, window, (64, 64), scaled_decoding=True)
        differences.append(np.abs(full - scaled).mean())
    assert np.mean(differences) < 2.0
    assert np.max(differences) < 5.0


FORMATS = {
    "JPEG": ("JPEG", "RGB", {}),
    "progressive JPEG": ("JPEG", "RGB", {"progressive": True}),
    "gray JPEG": ("JPEG", "L", {}),
    "CMYK JPEG": ("JPEG", "CMYK", {}),
    "PNG": ("PNG", "RGB", {}),
    "gray PNG": ("PNG", "L", {}),
    "1-bit PNG": ("PNG", "1", {}),
    "palette PNG": ("PNG", "P", {}),
    "gray PNG with alpha": ("PNG", "LA", {}),
    "PNG with alpha": ("PNG", "RGBA", {}),
    "GIF": ("GIF", "P", {}),
    "BMP": ("BMP", "RGB", {}),
    "BMP with alpha": ("BMP", "RGBA", {}),
    "palette BMP": ("BMP", "P", {}),
    "gray BMP": ("BMP", "L", {}),
    "lossless WebP": ("WEBP", "RGB", {"lossless": True}),
    "WebP with alpha": ("WEBP", "RGBA", {"lossless": True}),
    "lossy WebP with alpha": ("WEBP", "RGBA", {}),
    "lossy WebP": ("WEBP", "RGB", {}),
    "WebP with metadata": ("WEBP", "RGB", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_read_as_pillow_reads_them(name):
    format, mode, options = FORMATS[name]
    contents = encoded(Image.fromarray(smooth(37, 53)).convert(mode), format, **options)
    if format == "WEBP" and KERAS_2:
        with pytest.raises(tf.errors.InvalidArgumentError, match="the file is not a JPEG, PNG, GIF or BMP image"):
            codecs.decode(contents)
        return
    assert codecs.dimensions(contents).numpy().tolist() == [37, 53]
    result = both_ways(codecs.decode, contents).astype(int)
    expected = np.asarray(Image.open(io.BytesIO(contents)).convert("RGB")).astype(int)
    assert result.shape == (37, 53, 3)
    assert np.abs(result - expected).mean() < (1.5 if format == "JPEG" else 0.01)


def test_alpha_is_dropped_and_not_blended():
    pixels = np.dstack([smooth(8, 8), np.zeros((8, 8), "uint8")])
    np.testing.assert_array_equal(codecs.decode(encoded(pixels, "PNG")), pixels[..., :3])


def test_16_bit_values_keep_their_high_byte():
    values = (np.arange(64).reshape(8, 8) * 1000).astype("uint16")
    np.testing.assert_array_equal(codecs.decode(encoded(Image.fromarray(values), "PNG"))[..., 0], values >> 8)


def test_animations_give_their_first_frame():
    frames = [Image.fromarray(smooth(20, 30) // divisor) for divisor in (1, 2, 3)]
    contents = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    expected = np.asarray(Image.open(io.BytesIO(contents)).convert("RGB"))
    np.testing.assert_array_equal(codecs.decode(contents), expected)


def test_animated_webp_is_refused_before_it_is_decoded():
    """TensorFlow's decoder damages the memory of the process with it."""
    frames = [Image.fromarray(smooth(20, 30) // divisor).convert("RGBA") for divisor in (1, 2, 3)]
    for options in ({}, {"lossless": True}):
        contents = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], **options)
        with pytest.raises(tf.errors.InvalidArgumentError, match="animated WebP files are not supported"):
            codecs.decode(contents)


def test_names_do_not_matter(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(smooth(8, 9), "PNG"))
    np.testing.assert_array_equal(codecs.read(str(path)), smooth(8, 9))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    contents = encoded(smooth(37, 53), "JPEG", exif=exif, quality=95)
    assert int(codecs.exif_orientation(contents)) == orientation
    result = codecs.exif_orient(codecs.decode(contents), codecs.exif_orientation(contents)).numpy().astype(int)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(contents)))).astype(int)
    assert result.shape == expected.shape
    assert np.abs(result - expected).mean() < 1.5
    # It is ignored where nobody asks for it.
    assert codecs.decode(contents).shape == (37, 53, 3)


def test_files_without_exif_are_upright():
    assert int(codecs.exif_orientation(encoded(smooth(8, 8), "JPEG"))) == 1
    assert int(codecs.exif_orientation(encoded(smooth(8, 8), "PNG"))) == 1
    assert int(codecs.exif_orientation(b"\xff\xd8\xffExif\x00\x00II")) == 1


def test_read_says_what_is_wrong(tmp_path):
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "cut.jpg").write_bytes(encoded(smooth(100, 100), "JPEG")[:800])
    (tmp_path / "empty.jpg").write_bytes(b"")
    for name in ("text.jpg", "cut.jpg", "empty.jpg"):
        with pytest.raises(ValueError, match=rf"{name}' is not a readable {READABLE} image: \w+"):
            codecs.read(str(tmp_path / name))
    with pytest.raises(ValueError, match="there is no image file"):
        codecs.read(str(tmp_path / "missing.jpg"))


def test_too_many_pixels_are_refused():
    contents = encoded(smooth(40, 50), "PNG")
    assert codecs.decode(contents, max_pixels=2000).shape == (40, 50, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have from 1 to 1999 pixels"):
        codecs.decode(contents, max_pixels=1999)


def test_a_decompression_bomb_is_refused_from_its_header(tmp_path):
    """100 megapixels in 300 KB: in 50 ms of processor time and 20 MB of memory; in a process, to measure its peak."""
    bomb = encoded(Image.new("RGB", (10_000, 10_000)), "PNG")
    assert len(bomb) < 400_000
    (tmp_path / "bomb.png").write_bytes(bomb)
    (tmp_path / "small.png").write_bytes(encoded(smooth(10, 10), "PNG"))
    code = """
import resource, sys, time
from keras_resnet.ops import codecs, graph_errors
import tensorflow as tf
decode = tf.function(codecs.decode, input_signature=[tf.TensorSpec([], tf.string)])
small, bomb = (open(path, "rb").read() for path in sys.argv[1:])
decode(tf.constant(small))
for _ in range(3):
    try:
        decode(tf.constant(b"junk"))
    except tf.errors.InvalidArgumentError:
        pass
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    decode(tf.constant(bomb))
except tf.errors.InvalidArgumentError as error:
    seconds = time.process_time() - start
    print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, graph_errors.first_line(error))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "small.png"), str(tmp_path / "bomb.png")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds, mib, message = output.split(" ", 2)
    assert "must have from 1 to 50000000 pixels" in message
    assert float(seconds) < 0.05
    assert float(mib) < 20


@pytest.mark.soak
def test_20000_mutated_files_only_raise_the_documented_error(random):
    pixels = smooth(24, 31)
    sources = [encoded(pixels, format) for format in ("JPEG", "PNG", "GIF", "BMP", "WEBP")]
    decode = tf.function(codecs.decode, input_signature=[tf.TensorSpec([], tf.string)])
    decoded = 0
    for number in range(20_000):
        data = bytearray(sources[number % len(sources)])
        for _ in range(random.integers(1, 6)):
            kind, place = random.integers(0, 4), random.integers(0, max(1, len(data)))
            if kind == 0:
                data[place : place + 1] = bytes([random.integers(0, 256)])
            elif kind == 1:
                del data[place : place + random.integers(1, 20)]
            elif kind == 2:
                data[place:place] = random.bytes(random.integers(1, 20))
            else:
                del data[place:]
        try:
            assert decode(tf.constant(bytes(data))).shape[-1] == 3
            decoded += 1
        except tf.errors.InvalidArgumentError:
            pass
    assert 500 < decoded < 19_500


def test_files_that_cannot_be_read_do_not_stop_the_others(tmp_path, caplog):
    paths = [str(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    for path in paths:
        Image.new("RGB", (3, 2)).save(path)
    pathlib.Path(paths[1]).write_bytes(b"")
    images = codecs.read_each(paths)
    assert [(index, tuple(pixels.shape)) for index, pixels in itertools.islice(images, 2)] == [
        (0, (2, 3, 3)),
        (2, (2, 3, 3)),
    ]
    with pytest.raises(InputError, match=r"1 of 3 images cannot be read; the others are done\."):
        next(images)
    assert [record.getMessage()[:40] for record in caplog.records] == [f"skipped: {paths[1]!r}"[:40]]
    with pytest.raises(InputError, match=r"b.png' is not a readable .*: it is empty"):
        next(codecs.read_each(paths[1:2]))
