"""Files of annotated folders as people's tools leave them: byte order marks, backslashes, suffixes in another case."""

from __future__ import annotations

import codecs
import os
import pathlib
import re
import unicodedata
import urllib.parse
from collections.abc import Sequence

from PIL import Image, UnidentifiedImageError

from keras_resnet.data.folders import SUFFIXES
from keras_resnet.errors import InputError

ORIENTATION = 0x0112
"""EXIF tag of the orientation of an image; from 5 on, height and width are swapped."""


def read_text(path: pathlib.Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark, or in UTF-16 with one.

    Raises:
        ValueError: the file is in another encoding.
    """
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"file {str(path)!r} must be UTF-8 text; {error.reason} at byte {error.start}.") from error


def spelling(name: str) -> str:
    """The form in which names are compared: in one case, and with letters such as ö in one piece, unlike on macOS."""
    return unicodedata.normalize("NFC", name).casefold()


def image_size(path: str | os.PathLike, exif: bool = False) -> tuple[int, int]:
    """Read the height and width of an image in pixels from its header.

    Args:
        path: the image file.
        exif: whether JPEGs are rotated by their EXIF orientation, as by `ops.codecs.decode_upright`.

    Raises:
        ValueError: the image cannot be read.
    """
    try:
        with Image.open(path) as file:
            height, width = file.height, file.width
            swapped = exif and file.format in ("JPEG", "MPO") and file.getexif().get(ORIENTATION) in (5, 6, 7, 8)
    except UnidentifiedImageError as error:
        raise InputError(f"image {os.fspath(path)!r} {no_image(path)}.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"image {os.fspath(path)!r} cannot be read: {error}.") from error
    return (width, height) if swapped else (height, width)


def no_image(path: str | os.PathLike) -> str:
    """Return why Pillow cannot identify a file, to end a message: "is empty" or "is no image"."""
    return "is no image" if os.path.getsize(path) else "is empty"


class FileFinder:
    """Find files by name; where no file has exactly the name, upper and lower case are the same, as are ö and o with ¨.

    The folders are listed once, so a finder should not outlive the reading of a split.
    """

    def __init__(self) -> None:
        self._names: dict[pathlib.Path, dict[str, list[pathlib.Path]]] = {}

    def find(self, path: pathlib.Path) -> pathlib.Path | None:
        """Return a file by its path, or the only one whose name differs from it in case alone; None if none exists."""
        if path.is_file():
            return path
        if path.parent not in self._names:
            names: dict[str, list[pathlib.Path]] = {}
            self._names[path.parent] = names
            for file in path.parent.iterdir() if path.parent.is_dir() else ():
                names.setdefault(spelling(file.name), []).append(file)
        matches = self._names[path.parent].get(spelling(path.name), [])
        return matches[0] if len(matches) == 1 and matches[0].is_file() else None

    def find_image(self, folder: pathlib.Path, stem: str) -> pathlib.Path | None:
        """Return the image with a name without ending; None if there is none."""
        found = (self.find(folder / f"{stem}{suffix}") for suffix in SUFFIXES)
        return next((path for path in found if path), None)

    def find_named(self, folders: Sequence[pathlib.Path], name: str) -> pathlib.Path | None:
        r"""Return the file that an annotation names, relative to the first of some folders that has it.

        Backslashes separate folders too, and %20 may stand for a space, as in addresses. A file that is in none of them
        is searched by its last part alone, because many tools write the path on the machine where the images were
        annotated.
        """
        paths = [folder / name for folder in folders]
        for spelling in dict.fromkeys((name, urllib.parse.unquote(name))):
            parts = [part for part in re.split(r"[/\\]", spelling.strip()) if part not in ("", ".")]
            candidates = [candidate for candidate in (parts, parts[-1:]) if candidate]
            paths += [folder.joinpath(*candidate) for candidate in candidates for folder in folders]
        return next((path for path in map(self.find, paths) if path), None)
