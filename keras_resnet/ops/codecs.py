"""Image files: their headers, decoding in whole or in part, and EXIF orientation.

Everything works eagerly, inside `tf.data.Dataset.map` and inside exported signatures. Images are RGB with values in
[0, 255].
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from keras_resnet.errors import InputError
from keras_resnet.ops import formats, graph_errors, image

log = logging.getLogger(__name__)

MAX_PIXELS = 50_000_000
"""Largest image that is decoded, in pixels; files whose header says more are refused."""

WEBP = hasattr(tf.raw_ops, "DecodeWebP")
"""Whether this TensorFlow reads WebP; the one of the Keras 2 stack does not."""

READABLE = ("JPEG", "PNG", "GIF", "BMP", *(("WebP",) if WEBP else ()))
"""Formats that can be decoded, with the names of `formats`."""

FORMATS = f"{', '.join(READABLE[:-1])} or {READABLE[-1]}"


def _head(contents: tf.Tensor, count: int = 32) -> tf.Tensor:
    """Return the first bytes of a file as i32[count], padded with zeros."""
    return tf.cast(tf.io.decode_raw(tf.strings.substr(contents, 0, count), tf.uint8, fixed_length=count), tf.int32)


def _starts(head: tf.Tensor, magic: bytes, at: int = 0) -> tf.Tensor:
    """Return whether the bytes from a position on are `magic`: bool[]."""
    return tf.reduce_all(head[at : at + len(magic)] == tf.constant(list(magic)))


def is_jpeg(contents: tf.Tensor) -> tf.Tensor:
    """Return whether a file, string[], starts as JPEG files do: bool[]."""
    return tf.strings.substr(contents, 0, 3) == b"\xff\xd8\xff"


def dimensions(contents: tf.Tensor) -> tf.Tensor:
    """Read height and width from a file's header, without decoding it.

    Args:
        contents: string[], a file in one of `FORMATS`.

    Returns:
        i32[2], height and width in pixels; 0 or less where the header is damaged.

    Raises:
        tf.errors.InvalidArgumentError: the file is in another format.
    """
    # JPEGs apart: testing for all formats would add a tenth to the time of decoding them.
    return tf.cond(
        is_jpeg(contents), lambda: tf.image.extract_jpeg_shape(contents)[:2], lambda: _other_dimensions(contents)
    )


def _other_dimensions(contents: tf.Tensor) -> tf.Tensor:
    """Return the `dimensions` of a file in a format other than JPEG."""
    head = _head(contents)

    def number(*places: int) -> tf.Tensor:
        """Return the integer whose bytes, from low to high, are at these places."""
        return tf.reduce_sum(tf.gather(head, places) * [256**power for power in range(len(places))])

    def unknown() -> tf.Tensor:
        with tf.control_dependencies([tf.debugging.Assert(False, [f"the file is not a {FORMATS} image"])]):
            return tf.zeros([2], tf.int32)

    def png() -> tf.Tensor:
        return tf.stack([number(23, 22, 21, 20), number(19, 18, 17, 16)])

    def gif() -> tf.Tensor:
        return tf.stack([number(8, 9), number(6, 7)])

    def bmp() -> tf.Tensor:
        # A negative height means that the first row is the top one.
        return tf.stack([tf.abs(number(22, 23, 24, 25)), number(18, 19, 20, 21)])

    def vp8x() -> tf.Tensor:
        return 1 + tf.stack([number(27, 28, 29), number(24, 25, 26)])

    def vp8l() -> tf.Tensor:
        bits = number(21, 22, 23, 24)
        return 1 + tf.bitwise.bitwise_and(tf.stack([bits // 2**14, bits]), 2**14 - 1)

    def vp8() -> tf.Tensor:
        return tf.bitwise.bitwise_and(tf.stack([number(28, 29), number(26, 27)]), 2**14 - 1)

    webp = _starts(head, b"RIFF") & _starts(head, b"WEBP", 8) & WEBP
    readers = {
        png: _starts(head, b"\x89PNG\r\n\x1a\n"),
        gif: _starts(head, b"GIF8"),
        bmp: _starts(head, b"BM"),
        vp8x: webp & _starts(head, b"VP8X", 12),
        vp8l: webp & _starts(head, b"VP8L", 12),
        vp8: webp & _starts(head, b"VP8 ", 12),
        unknown: True,
    }
    # Not `tf.case`, which nests a condition in the one before: tracing it takes a third of the time of a pipeline.
    first = tf.argmax(tf.cast(tf.stack(list(readers.values())), tf.int32), output_type=tf.int32)
    return tf.switch_case(first, list(readers))


def checked_dimensions(contents: tf.Tensor, max_pixels: int = MAX_PIXELS) -> tf.Tensor:
    """Read height and width from a file's header and refuse images that are too large or empty.

    Args:
        contents: string[].
        max_pixels: maximum of height times width.

    Returns:
        i32[2], height and width in pixels, both at least 1.

    Raises:
        tf.errors.InvalidArgumentError: the format is unknown, or the image is empty or has more than `max_pixels`.
    """
    size = dimensions(contents)
    pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    fits = tf.logical_and(tf.reduce_min(size) > 0, pixels <= max_pixels)
    message = f"the image must have from 1 to {max_pixels} pixels; its header says height and width"
    with tf.control_dependencies([tf.debugging.Assert(fits, [message, size])]):
        return tf.ensure_shape(tf.identity(size), [2])


def decode(contents: tf.Tensor, max_pixels: int = MAX_PIXELS) -> tf.Tensor:
    """Decode an image file as RGB, after checking the size in its header.

    Gray and palette images are expanded, CMYK is converted, alpha is dropped without blending, 16-bit values keep their
    high byte, animated GIFs give their first frame, and EXIF orientation is ignored (see `decode_upright`).

    Args:
        contents: string[], a file in one of `FORMATS`, recognized by its first bytes.
        max_pixels: maximum of height times width.

    Returns:
        u8[H,W,3].

    Raises:
        tf.errors.InvalidArgumentError: the file is in another format, damaged, truncated or too large.
    """
    size = checked_dimensions(contents, max_pixels)
    with tf.control_dependencies([size]):
        return _decode(tf.identity(contents))


def _decode(contents: tf.Tensor) -> tf.Tensor:
    """Decode an image file whose dimensions are checked, as `decode` does."""

    def bmp() -> tf.Tensor:
        # For this format the decoder returns the stored channels: palette indices, RGB, or RGB with alpha.
        pixels = tf.io.decode_bmp(contents)
        palette = tf.io.decode_raw(tf.strings.substr(contents, 14 + 40, 1024), tf.uint8, fixed_length=1024)
        colors = tf.reshape(palette, [256, 4])[:, 2::-1]
        indexed = tf.shape(pixels)[2] == 1
        return tf.cond(indexed, lambda: tf.gather(colors, tf.cast(pixels[:, :, 0], tf.int32)), lambda: pixels[:, :, :3])

    def webp_with_alpha() -> tf.Tensor:
        return tf.io.decode_image(contents, channels=4, expand_animations=False)[:, :, :3]

    def other() -> tf.Tensor:
        return tf.io.decode_image(contents, channels=3, expand_animations=False)

    head = _head(contents)
    alpha, animated = _webp_flags(head)
    # TensorFlow 2.21 corrupts memory when it decodes an animated WebP.
    with tf.control_dependencies([tf.debugging.Assert(~animated, ["animated WebP files are not supported"])]):
        kind = tf.cast(_starts(head, b"BM"), tf.int32) + 2 * tf.cast(alpha, tf.int32)
    return tf.ensure_shape(tf.switch_case(kind, [other, bmp, webp_with_alpha]), [None, None, 3])


def _webp_flags(head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return whether a file is a WebP with alpha, which decodes to four channels only, and whether it is animated."""
    extended = _starts(head, b"RIFF") & _starts(head, b"WEBPVP8X", 8)
    lossless = _starts(head, b"RIFF") & _starts(head, b"WEBPVP8L", 8)
    # A bit of the flags of the extended format, or the one after width and height in the lossless format.
    alpha = (extended & (tf.bitwise.bitwise_and(head[20], 0x10) > 0)) | (
        lossless & (tf.bitwise.bitwise_and(head[24], 0x10) > 0)
    )
    return alpha, extended & (tf.bitwise.bitwise_and(head[20], 0x02) > 0)


def read(path: str, decoder: Callable[[tf.Tensor], tf.Tensor] = decode) -> tf.Tensor:
    """Read an image file as RGB, u8[H,W,3], or decode its contents with another function.

    Raises:
        ValueError: the file does not exist or cannot be decoded.
    """
    try:
        return decoder(tf.io.read_file(path))
    except (tf.errors.NotFoundError, tf.errors.FailedPreconditionError) as error:
        raise InputError(f"there is no image file {path!r}.") from error
    except tf.errors.InvalidArgumentError as error:
        reason = what_it_is(path) or f": {graph_errors.first_line(error)}"
        raise InputError(f"{path!r} is not a readable {FORMATS} image{reason}.") from error


def read_each(paths: Sequence[str], decoder: Callable[[tf.Tensor], tf.Tensor] = decode) -> Iterator[tuple[int, Any]]:
    """Read image files one by one; those that cannot be read are logged, and named again when all others are read.

    Args:
        paths: the files.
        decoder: as for `read`.

    Yields:
        (index of the file, its pixels u8[H,W,3]).

    Raises:
        ValueError: at the end, if a file cannot be read.
    """
    failed: list[InputError] = []
    for index, path in enumerate(paths):
        try:
            pixels = read(path, decoder)
        except InputError as error:
            failed.append(error)
            if len(paths) > 1:
                log.warning("skipped: %s", error)
            continue
        yield index, pixels
    if failed and len(paths) == 1:
        raise failed[0]
    if failed:
        raise InputError(f"{len(failed)} of {len(paths)} images cannot be read; the others are done.")


def what_it_is(path: str) -> str:
    """Return why a file is not a readable image, to end a message: ": it is empty", ": it is a TIFF file" or ""."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            head = file.read(formats.HEAD)
    except tf.errors.OpError:
        return ""
    kind = formats.of(head)
    if not head:
        return ": it is empty"
    return f": it is a {kind} file" if kind and kind not in READABLE else ""


def exif_orientation(contents: tf.Tensor) -> tf.Tensor:
    """Read the EXIF orientation of a JPEG file (tag 0x0112 of its first directory): i32[], 1 to 8, by default 1.

    Args:
        contents: string[].
    """
    reach = 65_536
    bytes_ = tf.cast(tf.io.decode_raw(tf.strings.substr(contents, 0, reach), tf.uint8), tf.int32)
    bytes_ = tf.concat([bytes_, tf.zeros([64], tf.int32)], 0)
    marker = list(b"Exif\x00\x00")
    window = tf.minimum(tf.size(bytes_) - 8, 4096)
    starts = tf.reduce_all(tf.stack([bytes_[at : at + window] == value for at, value in enumerate(marker)]), axis=0)
    start = tf.cast(tf.argmax(starts), tf.int32) + len(marker)
    little = bytes_[start] == ord("I")

    def number(at: tf.Tensor, size: int) -> tf.Tensor:
        """Return the integer of `size` bytes at each position."""
        taken = tf.gather(bytes_, tf.clip_by_value(at[..., None] + tf.range(size), 0, tf.size(bytes_) - 1))
        taken = tf.where(little, tf.reverse(taken, [-1]), taken)
        return tf.reduce_sum(taken * 256 ** tf.range(size - 1, -1, -1), axis=-1)

    directory = start + number(start + 4, 4)
    entries = directory + 2 + 12 * tf.range(tf.minimum(number(directory, 2), 64))
    values = tf.boolean_mask(number(entries + 8, 2), number(entries, 2) == 0x0112)
    value = tf.reduce_max(tf.concat([values, [1]], 0))
    valid = is_jpeg(contents) & tf.reduce_any(starts) & (value >= 1) & (value <= 8)
    return tf.where(valid, value, 1)


def decode_upright(contents: tf.Tensor, max_pixels: int = MAX_PIXELS) -> tf.Tensor:
    """Decode an image file as `decode` does and rotate it by its EXIF orientation: string[] -> u8[H,W,3]."""
    return exif_orient(decode(contents, max_pixels), exif_orientation(contents))


def exif_orient(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Rotate and mirror an image by its EXIF orientation: [H,W,C] -> [H,W,C] or [W,H,C].

    Args:
        pixels: [H,W,C] as stored.
        orientation: i32[], 1 to 8.
    """
    swapped = orientation >= 5
    pixels = tf.cond(swapped, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
    # After the transposition it remains to flip vertically, horizontally, or both.
    vertical = tf.reduce_any(orientation == tf.constant([3, 4, 7, 8]))
    horizontal = tf.reduce_any(orientation == tf.constant([2, 3, 6, 7]))
    pixels = tf.cond(vertical, lambda: pixels[::-1], lambda: pixels)
    return tf.cond(horizontal, lambda: pixels[:, ::-1], lambda: pixels)


def decode_window(
    contents: tf.Tensor,
    stored_size: tf.Tensor,
    window: tf.Tensor,
    size: Sequence[int],
    *,
    antialias: bool = True,
    scaled_decoding: bool = False,
    mirrored: tf.Tensor | bool = False,
) -> tf.Tensor:
    """Decode only the part of an image that a window needs and resize it.

    Only the rows and columns of a JPEG in the window, and the margin that antialiasing needs, are decoded.

    Args:
        contents: string[].
        stored_size: i32[2], its `checked_dimensions`.
        window: i32[4] or f32[4] inside the image.
        size: height and width of the result.
        antialias: whether to average pixels where the window shrinks; otherwise the four nearest pixels are
            interpolated, which is faster and noisier.
        scaled_decoding: let libjpeg shrink a JPEG by 2, 4 or 8 while decoding, if the window then still is at least as
            large as the result. Faster on large images; the pixels differ slightly.
        mirrored: bool[], whether to mirror the result left to right.

    Returns:
        f32[size[0],size[1],3] in [0, 255].

    Raises:
        tf.errors.InvalidArgumentError: the file is damaged or truncated.
    """
    window = tf.cast(window, tf.float32)
    whole = tf.cast(stored_size, tf.float32)
    with tf.control_dependencies([stored_size]):  # nothing is decoded before its size is checked
        contents = tf.identity(contents)

    def jpeg(ratio: int) -> Callable[[], tf.Tensor]:
        def decode_part() -> tf.Tensor:
            stored = tf.math.ceil(whole / ratio)
            inner = window / ratio
            shrink = inner[2:] / tf.constant(size, tf.float32)
            margin = tf.math.ceil(tf.maximum(shrink, 1.0)) + 1 if antialias else 0.0
            low = tf.clip_by_value(tf.floor(inner[:2]) - margin, 0.0, stored - 1)
            high = tf.clip_by_value(tf.math.ceil(inner[:2] + inner[2:]) + margin, low + 1, stored)
            part = tf.image.decode_and_crop_jpeg(
                contents, tf.cast(tf.concat([low, high - low], 0), tf.int32), channels=3, ratio=ratio
            )
            top, left = tf.unstack(inner[:2] - low)
            # Mirrored here, because these are bytes and the result is four times as large.
            part = image.mirror(part, mirrored)
            if mirrored is not False:
                left = tf.where(mirrored, high[1] - low[1] - left - inner[3], left)
            if antialias:
                return image.resize_window(part, tf.stack([top, left, inner[2], inner[3]]), size)
            return tf.image.resize(part, size)

        return decode_part

    def other() -> tf.Tensor:
        pixels = _decode(contents)
        if antialias:
            result = image.resize_window(pixels, window, size)
        else:
            low = tf.cast(tf.floor(window[:2]), tf.int32)
            high = tf.cast(tf.math.ceil(window[:2] + window[2:]), tf.int32)
            result = tf.image.resize(pixels[low[0] : high[0], low[1] : high[1]], size)
        return image.mirror(result, mirrored)

    branches = [other, jpeg(1)]
    choice = tf.cast(is_jpeg(contents), tf.int32)
    if scaled_decoding:
        branches += [jpeg(2), jpeg(4), jpeg(8)]
        shrink = tf.reduce_min(window[2:] / tf.constant(size, tf.float32))
        choice *= 1 + tf.reduce_sum(tf.cast(shrink >= tf.constant([2.0, 4.0, 8.0]), tf.int32))
    return tf.ensure_shape(tf.switch_case(choice, branches), [*size, 3])
