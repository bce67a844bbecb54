"""Folders that appear whole or not at all, and the numbered versions that TF Serving watches.

TF Serving takes up a folder as soon as its name is an integer, whatever is in it. So a version is written under another
name beside it, flushed to the disk, and gets its number by one rename. What a killed export left behind is removed by
the next one: a folder that is being written is locked by its process, and the lock ends with the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator

from keras_resnet.errors import InputError
from keras_resnet.files import digest

MANIFEST = "manifest.sha256"
"""File of a version with a line "sha256  path" for each other file, as `sha256sum --check` reads it."""

PARTIAL = ".partial-keras-resnet-"
"""How the name of a folder begins that is being written."""


@contextlib.contextmanager
def staging(parent: pathlib.Path) -> Iterator[pathlib.Path]:
    """Make a folder in `parent` to write into; where it was not renamed at the end, it is removed.

    `parent` is made where it is missing, and removed again where nothing came of it. Folders that killed processes left
    in it are removed first.

    Raises:
        ValueError: `parent` cannot be made or written, or the disk is full.
    """
    parent = parent.absolute()
    made = [path for path in (parent, *parent.parents) if not path.exists()]
    folder = lock = None
    try:
        with _as_input_error(parent):
            parent.mkdir(parents=True, exist_ok=True)
            with _locked(parent):
                _remove_leftovers(parent)
                folder = pathlib.Path(tempfile.mkdtemp(prefix=PARTIAL, dir=parent))
                lock = _lock(folder)
            folder.chmod(0o755)
            yield folder
    finally:
        if folder and folder.exists():
            shutil.rmtree(folder)
        if lock is not None:
            os.close(lock)
        for path in made:
            with contextlib.suppress(OSError):  # not empty: something came of it
                path.rmdir()


def version_numbers(base: pathlib.Path) -> set[int]:
    """The versions in a folder: a name counts where all of it is an integer, as in TF Serving."""
    names = (path.name for path in base.iterdir()) if base.is_dir() else ()
    return {int(name) for name in names if re.fullmatch(r"\s*[+-]?\d+\s*", name)}


def check_version(base: pathlib.Path, version: int | None) -> None:
    """Raise `InputError` where `base` cannot be a folder of versions, or has this one already."""
    if version_numbers(base.parent) and re.fullmatch(r"\d+", base.name):
        raise InputError(f"out must be the folder of all versions, such as {str(base.parent)!r}; got {str(base)!r}.")
    if base.exists() and not base.is_dir():
        raise InputError(f"out must be a folder; {str(base)!r} is a file.")
    if version is not None and version < 1:
        raise InputError(f"version must be at least 1; got {version}.")
    if version in version_numbers(base):
        raise InputError(f"version must be a new one; {str(base)!r} has version {version} already.")


def publish(folder: pathlib.Path, base: pathlib.Path, version: int | None = None) -> pathlib.Path:
    """Give a complete folder beside the versions of `base` its number, by one rename.

    Args:
        folder: a folder of `staging(base)`.
        base: the folder of the versions.
        version: its number; by default one more than the largest.

    Returns:
        The path of the version.

    Raises:
        ValueError: there is such a version.
    """
    write_manifest(folder)
    _flush(folder)
    with _locked(base):
        check_version(base, version)
        target = base / str(version or max(version_numbers(base), default=0) + 1)
        folder.rename(target)
        _flush_one(base)
    return target


def move(folder: pathlib.Path, target: pathlib.Path) -> None:
    """Give a complete folder of `staging` its name, by one rename.

    Raises:
        ValueError: `target` exists.
    """
    _flush(folder)
    with _locked(target.parent):
        check_new(target)
        folder.rename(target)
        _flush_one(target.parent)


def check_new(out: pathlib.Path) -> None:
    """Raise `InputError` where `out` exists."""
    if out.exists():
        raise InputError(f"out must be a folder that does not exist yet; {str(out)!r} does.")


def write_manifest(folder: pathlib.Path) -> None:
    """Write the checksum of each file in a folder into the file `MANIFEST` in it."""
    lines = [f"{digest(folder / name)}  {name}\n" for name in _files(folder)]
    (folder / MANIFEST).write_text("".join(lines), encoding="utf-8")


def verify(folder: str | os.PathLike) -> None:
    """Check the files of a version against its manifest.

    Raises:
        ValueError: a file is missing, added or changed.
    """
    folder = pathlib.Path(folder)
    try:
        lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{str(folder)!r} must have a file {MANIFEST}: {error.strerror}.") from error
    promised = {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}
    found = _files(folder)
    if odd := sorted(set(found) ^ set(promised)):
        raise InputError(f"{str(folder)!r} must have the files of its manifest; {odd[0]!r} is missing or was added.")
    for name in found:
        if digest(folder / name) != promised[name]:
            raise InputError(f"{str(folder / name)!r} is not the file that its manifest has the checksum of.")


def _files(folder: pathlib.Path) -> list[str]:
    """Paths of all files in a folder but the manifest, relative to it."""
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in files if name != MANIFEST)


def _flush(folder: pathlib.Path) -> None:
    """Wait until a folder and all that is in it are on the disk."""
    for path in (*folder.rglob("*"), folder):
        _flush_one(path)


def _flush_one(path: pathlib.Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _lock(folder: pathlib.Path, wait: bool = True) -> int | None:
    """Lock a folder until the handle that is returned is closed; None where another process has it locked."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    handle = _lock(folder)
    try:
        yield
    finally:
        os.close(handle)


def _remove_leftovers(parent: pathlib.Path) -> None:
    """Remove the folders that were being written by processes that are no more; `parent` is locked."""
    for folder in parent.glob(f"{PARTIAL}*"):
        handle = _lock(folder, wait=False)
        if handle is not None:
            shutil.rmtree(folder)
            os.close(handle)


@contextlib.contextmanager
def _as_input_error(parent: pathlib.Path) -> Iterator[None]:
    """Answer a full disk or a folder that cannot be written as a user's mistake."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"out must be a place that can be written; {str(parent)!r} cannot: {reason}.") from error
