"""Image files in folders: found by their content, without the files that systems and archives leave behind."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from keras_resnet.errors import InputError, counted, listed
from keras_resnet.files import LOCK
from keras_resnet.ops import codecs, formats

log = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".webp")
"""Suffixes of files that claim to be images, in any case and in the order in which names without one are completed.

Such a file without an image's content counts as damaged.
"""

SYSTEM_NAMES = frozenset(
    {
        "__macosx",  # ZIP archives of macOS
        "icon\r",
        "thumbs.db",  # Windows
        "ehthumbs.db",
        "desktop.ini",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "found.000",
        "picasa.ini",
        "@eadir",  # storage of Synology and QNAP
        "@tmp",
        "@recycle",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "lost+found",  # Linux
        "__pycache__",
    }
)
"""Lower-case names that operating systems, archives and programs leave behind; hidden names begin with a dot."""

RUN_FILES = ("metrics.jsonl", "checkpoints", LOCK)
"""Names in the folder of a run, one of which it has in addition to `config.json`."""

MAX_RUN_DEPTH = 3
"""Levels of folders in which runs are looked for, such as `runs/photos/1`."""

THREADS = 16
"""Files whose first bytes are read at a time, because disks of other machines take a while to answer."""

CHUNK = 256
"""Files that a thread reads in turn."""

SHOWN = 3
"""Names in a message."""


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or left behind by a system, an archive or a program."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def visible(folder: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """Return the names of the subfolders and of the files of a folder, both sorted, without hidden ones and runs.

    Raises:
        ValueError: the folder cannot be read.
    """
    folders, files = _entries(folder)
    return [name for name in folders if not _holds_runs(os.path.join(folder, name))], files


def _entries(folder: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """Return the names of the subfolders and of the files of a folder, both sorted, without hidden ones."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_file() or entry.is_symlink():  # no pipe or device, which may never end
                    files.append(entry.name)
    except OSError as error:
        raise InputError(f"folder {os.fspath(folder)!r} cannot be read: {error.strerror}.") from error
    for name in (*folders, *files):
        if not name.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in name):
            raise InputError(f"names of files must be UTF-8; rename {os.fsencode(name)!r} in {os.fspath(folder)!r}.")
    return sorted(folders), sorted(files)


def _holds_runs(folder: str, depth: int = 0) -> bool:
    """Return whether a folder is that of a run, also one that just begins, or holds nothing but such folders."""
    if os.path.isfile(os.path.join(folder, "config.json")):
        return any(os.path.exists(os.path.join(folder, name)) for name in RUN_FILES)
    folders, files = _entries(folder)
    if files or depth == MAX_RUN_DEPTH:
        return False
    if not folders:
        return os.path.exists(os.path.join(folder, LOCK))
    return all(_holds_runs(os.path.join(folder, name), depth + 1) for name in folders)


def walk(folder: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the paths of all files in a folder and its subfolders, without hidden ones; links are followed once.

    Raises:
        ValueError: a folder cannot be read.
    """
    pending, seen = [os.fspath(folder)], set()
    while pending:
        current = pending.pop()
        real = os.path.realpath(current)
        if real in seen:  # a link to a folder that contains it
            continue
        seen.add(real)
        folders, files = visible(current)
        pending += [os.path.join(current, name) for name in folders]
        yield from (os.path.join(current, name) for name in files)


@dataclasses.dataclass(frozen=True)
class Listing:
    """The files of a folder and its subfolders.

    Attributes:
        images: paths of images in a format of `codecs.FORMATS`, and of files whose suffix claims that, sorted.
        unreadable: paths of images in other formats, by the format.
        others: paths of all other files.
    """

    images: list[str]
    unreadable: dict[str, list[str]]
    others: list[str]

    @classmethod
    def of(cls, paths: Iterable[str]) -> Listing:
        """Sort files by what they are."""
        paths = sorted(paths)
        listing = cls([], {}, [])
        for path, kind in zip(paths, _formats(paths), strict=True):
            if kind in codecs.READABLE or (not kind and path.lower().endswith(SUFFIXES)):
                listing.images.append(path)
            elif kind:
                listing.unreadable.setdefault(kind, []).append(path)
            else:
                listing.others.append(path)
        return listing


def _formats(paths: Sequence[str]) -> list[str | None]:
    """Return the format of each file by its first bytes; None also for files that cannot be read."""
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    if len(chunks) < 2:
        return _formats_of_chunk(paths)
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return [kind for chunk in pool.map(_formats_of_chunk, chunks) for kind in chunk]


def _formats_of_chunk(paths: Sequence[str]) -> list[str | None]:
    found: list[str | None] = []
    for path in paths:
        try:
            found.append(formats.of_file(path))
        except OSError:  # such as a link to a missing file; decoding reports it by name
            found.append(None)
    return found


def images(folder: str | os.PathLike[str]) -> list[str]:
    """Return the paths of all images in a folder and its subfolders, sorted; what is left out is logged in one line.

    Raises:
        ValueError: the folder has no images, or images in a format that cannot be read.
    """
    root = os.fspath(folder)
    listing = Listing.of(walk(root))
    check_readable(root, [listing])
    if not listing.images:
        raise InputError(f"folder {root!r} must hold images ({codecs.FORMATS}); it has none.")
    log_left_out(root, {"files that are not images": listing.others})
    return listing.images


def expand(paths: Iterable[str]) -> list[str]:
    """Return paths with the images of each folder, as of `images`, instead of the folder.

    Raises:
        ValueError: as for `images`.
    """
    return [path for given in paths for path in (images(given) if os.path.isdir(given) else [given])]


def check_readable(root: str, listings: Iterable[Listing]) -> None:
    """Raise `InputError` if a folder has images of a format that cannot be read; the message tells how to convert them.

    Args:
        root: the folder.
        listings: what it holds.
    """
    unreadable: dict[str, list[str]] = {}
    for listing in listings:
        for kind, paths in listing.unreadable.items():
            unreadable.setdefault(kind, []).extend(paths)
    if not unreadable:
        return
    counts = " and ".join(counted(len(paths), f"{kind} file") for kind, paths in unreadable.items())
    first = next(iter(unreadable.values()))[0]
    suffix = os.path.splitext(first)[1]
    pattern = f"*{suffix}" if suffix else os.path.basename(first)
    raise InputError(
        f"folder {root!r} has {counts}, such as {os.path.relpath(first, root)!r}, but images must be {codecs.FORMATS}; "
        f"convert them, with ImageMagick: find {root!r} -name {pattern!r} -exec mogrify -format png {{}} ';' -delete"
    )


def log_left_out(root: str, files: Mapping[str, Sequence[str]], unused: Sequence[str] = ()) -> None:
    """Log in one line what of a folder is left out; nothing if all is used.

    Args:
        root: the folder.
        files: which files are left out, such as "files that are not images" -> their paths.
        unused: names of folders that are left out.
    """
    parts = []
    for reason, paths in files.items():
        if paths:
            names = [repr(os.path.relpath(path, root)) for path in paths]
            parts.append(f"{reason}: {len(paths):,} ({listed(names, SHOWN)})")
    if unused:
        parts.append(f"folders: {len(unused):,} ({listed(map(repr, unused), SHOWN)})")
    if parts:
        log.warning("%s: left out %s", root, "; ".join(parts))
