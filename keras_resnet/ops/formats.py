"""Formats of image files, by their first bytes."""

from __future__ import annotations

HEAD = 132
"""Number of bytes at the start of a file that determine its format."""

SIGNATURES = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF8", "GIF"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"II+\x00", "TIFF"),
    (0, b"MM\x00+", "TIFF"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"8BPS", "Photoshop"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"qoif", "QOI"),
    (128, b"DICM", "DICOM"),
)
"""Rows of (position, bytes at it, name of the format)."""

BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
"""Sizes of the header that follows the file header of a BMP file."""

BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
    "Canon RAW": (b"crx ",),
}
"""Formats in ISO's container and their brands; a brand of an earlier row decides, as AVIF files may list mif1 too."""


def of(head: bytes) -> str | None:
    """Return the name of an image format, such as "JPEG" or "TIFF"; None if the bytes are not those of an image.

    Args:
        head: the first `HEAD` bytes of a file, or the whole file if it is smaller.
    """
    for position, magic, name in SIGNATURES:
        if head.startswith(magic, position):
            return name
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in BMP_HEADERS:
        return "BMP"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp":
        return _container(head)
    # PBM, PGM and PPM: "P6", white space and the width, or a comment.
    if (
        head[:1] == b"P"
        and head[1:2] in b"123456"
        and head[2:3].isspace()
        and (head[3:4].isdigit() or head[3:4] == b"#")
    ):
        return "PNM"
    return None


def _container(head: bytes) -> str | None:
    """Return the format of a file in ISO's container, by its brands; None for videos and others."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12]} | {head[at : at + 4] for at in range(16, size - 3, 4)}
    return next((name for name, own in BRANDS.items() if brands.intersection(own)), None)


def of_file(path: str) -> str | None:
    """Return the format of a file, as `of` does; "" for an empty file.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        head = file.read(HEAD)
    return of(head) if head else ""
