"""Unusual image files, each with its outcome, "read" or "refused", as in the table of docs/data.md."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from tests.conftest import KERAS_2
from tests.serving.sources import smooth


def odd_files(random: np.random.Generator) -> dict[str, tuple[bytes, str]]:
    """Name -> (contents, outcome), from images of different sizes."""
    image = Image.fromarray(smooth(random, 45, 61))
    grey, alpha = image.convert("L"), image.copy()
    alpha.putalpha(grey)
    deep = Image.fromarray(random.integers(0, 65536, (40, 50)).astype("uint16"))
    frames = [Image.fromarray(smooth(random, 40, 52)) for _ in range(3)]

    def save(picture, format, **options):
        file = io.BytesIO()
        picture.save(file, format, **options)
        return file.getvalue()

    def oriented(value):
        exif = Image.Exif()
        exif[0x0112] = value
        return save(image, "JPEG", exif=exif)

    jpeg, png = save(image, "JPEG"), save(image, "PNG")
    animated = {"save_all": True, "append_images": frames[1:]}
    read = {
        "jpeg": jpeg,
        "progressive jpeg": save(image, "JPEG", progressive=True),
        "grey jpeg": save(grey, "JPEG"),
        "cmyk jpeg": save(image.convert("CMYK"), "JPEG"),
        "4:4:4 jpeg": save(image, "JPEG", subsampling=0, quality=95),
        "jpeg of one pixel": save(image.resize((1, 1)), "JPEG"),
        "long jpeg": save(image.resize((400, 20)), "JPEG"),
        **{f"jpeg with orientation {value}": oriented(value) for value in range(1, 9)},
        "png": png,
        "grey png": save(grey, "PNG"),
        "1-bit png": save(image.convert("1"), "PNG"),
        "palette png": save(image.convert("P"), "PNG"),
        "png with alpha": save(alpha, "PNG"),
        "grey png with alpha": save(grey.convert("LA"), "PNG"),
        "16-bit png": save(deep, "PNG"),
        "gif": save(image, "GIF"),
        "animated gif": save(frames[0], "GIF", **animated),
        "bmp": save(image, "BMP"),
        "palette bmp": save(image.convert("P"), "BMP"),
        "jpeg with bytes behind it": jpeg + b"more",
    }
    refused = {
        "truncated jpeg": jpeg[: len(jpeg) // 2],
        "truncated png": png[: len(png) // 2],
        "animated webp": save(frames[0], "WEBP", **animated),
        "animated webp with alpha": save(alpha.resize((52, 40)), "WEBP", **animated),
        "empty": b"",
        "text": b"this is not an image",
        "tiff": save(image, "TIFF"),
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    }
    (refused if KERAS_2 else read).update(
        {
            "webp": save(image, "WEBP"),
            "lossless webp with alpha": save(alpha, "WEBP", lossless=True),
            "lossy webp with alpha": save(alpha, "WEBP"),
        }
    )
    return {
        **{name: (contents, "read") for name, contents in read.items()},
        **{name: (contents, "refused") for name, contents in refused.items()},
    }
