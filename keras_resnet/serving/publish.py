"""The numbered versions that TensorFlow Serving watches, each published complete, by one rename.

TensorFlow Serving loads a folder as soon as its name is an integer, whatever it contains. So a version is written to a
temporary folder next to the others (`files.staging`), flushed to the disk and then renamed to its number.
"""

from __future__ import annotations

import os
import pathlib
import re

from keras_resnet import files
from keras_resnet.errors import InputError

MANIFEST = "manifest.sha256"
"""File of a version with a line "sha256  path" for each other file, as `sha256sum --check` reads it."""


def version_numbers(base: pathlib.Path) -> set[int]:
    """Return the numbers of the versions in a folder: the names that are integers as a whole, as in TensorFlow Serving.

    Args:
        base: the folder of all versions; it need not exist.
    """
    names = (path.name for path in base.iterdir()) if base.is_dir() else ()
    return {int(name) for name in names if re.fullmatch(r"\s*[+-]?\d+\s*", name)}


def check_version(base: pathlib.Path, version: int | None) -> None:
    """Raise `InputError` if `base` cannot be the folder of all versions, or has this version already."""
    if version_numbers(base.parent) and re.fullmatch(r"\d+", base.name):
        raise InputError(f"out must be the folder of all versions, such as {str(base.parent)!r}; got {str(base)!r}.")
    if base.exists() and not base.is_dir():
        raise InputError(f"out must be a folder; {str(base)!r} is a file.")
    if version is not None and version < 1:
        raise InputError(f"version must be at least 1; got {version}.")
    if version in version_numbers(base):
        raise InputError(f"version must be a new one; {str(base)!r} has version {version} already.")


def publish(folder: pathlib.Path, base: pathlib.Path, version: int | None = None) -> pathlib.Path:
    """Publish a complete folder as a version, by one rename.

    Args:
        folder: a folder of `files.staging(base)`.
        base: the folder of all versions.
        version: the version's number; by default the largest one plus 1.

    The version's manifest is in it and, with the paths as they are from `base`, next to it: `N.sha256`.

    Returns:
        The path of the version.

    Raises:
        ValueError: the version exists.
    """
    write_manifest(folder)
    files.fsync_tree(folder)
    with files.locked(base):
        check_version(base, version)
        target = base / str(version or max(version_numbers(base), default=0) + 1)
        folder.rename(target)
        lines = (target / MANIFEST).read_text(encoding="utf-8").splitlines()
        entries = (line.partition("  ") for line in lines)
        text = "".join(f"{checksum}  {target.name}/{name}\n" for checksum, _, name in entries)
        files.write(files.manifest_path(target), text)
        files.fsync(base)
    return target


def write_manifest(folder: pathlib.Path) -> None:
    """Write the checksum of each file in a folder to its file `MANIFEST`."""
    lines = [f"{files.digest(folder / name)}  {name}\n" for name in _names(folder)]
    (folder / MANIFEST).write_text("".join(lines), encoding="utf-8")


def verify(folder: str | os.PathLike) -> None:
    """Compare the files of a version with its manifest.

    Raises:
        ValueError: a file is missing, was added or was changed.
    """
    folder = pathlib.Path(folder)
    try:
        lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{str(folder)!r} must have a file {MANIFEST}: {error.strerror}.") from error
    checksums = {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}
    names = _names(folder)
    if different := sorted(set(names) ^ set(checksums)):
        raise InputError(
            f"{str(folder)!r} must have the files of its manifest; {different[0]!r} is missing or was added."
        )
    for name in names:
        if files.digest(folder / name) != checksums[name]:
            raise InputError(f"{str(folder / name)!r} was changed: its checksum is not that of the manifest.")


def _names(folder: pathlib.Path) -> list[str]:
    """Relative paths of all files in a folder except the manifest."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in paths if path != MANIFEST)
