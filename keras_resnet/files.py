"""Files and folders that are written whole or not at all, and SHA-256 manifests of files.

A manifest is the file `NAME.sha256` next to `NAME`, in the format of `sha256sum`: HDF5 and safetensors have no
checksum.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pathlib
import re
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator

from keras_resnet.errors import InputError

CACHE_VARIABLE = "KERAS_RESNET_CACHE"
"""Environment variable with the cache folder."""

FILE_SUFFIXES = (".csv", ".html", ".jpg", ".json", ".keras", ".onnx", ".png", ".tflite", ".txt", ".xml", ".zip")
"""Endings of names that are not taken for new folders."""

PATH_KINDS = ("folder", "idx", "parquet", "tar", "tfrecord", "tfds", "voc", "cityscapes", "ade20k", "coco")
"""What stands before the colon in names of data sets that are paths."""

SHARD_KINDS = ("parquet", "tar", "tfrecord")
"""Those of `PATH_KINDS` that may also be files, patterns such as "train-{000..146}.tar", and addresses."""


def path_kind(name: str) -> tuple[str, str]:
    """Return the kind and the path of a data set's name: ("folder", "photos") for "folder:photos".

    Returns:
        Two empty strings for other names, such as "mnist", or "coco:1.1.0", a version of tensorflow-datasets.
    """
    kind, colon, path = name.partition(":")
    is_version = re.fullmatch(r"([\d*]+\.){2}[\d*]+", path)
    return (kind, path) if colon and kind in PATH_KINDS and not is_version else ("", "")


def expand(name: str) -> str:
    """Return a path with `~`, `~USER` and variables such as `$HOME` expanded; that in "folder:PATH" likewise.

    Raises:
        ValueError: there is no such user or variable, and no file of this name.
    """
    kind, path = path_kind(name)
    if kind:
        return f"{kind}:{expand(path)}"
    if is_address(name):
        return name
    path = os.path.expanduser(os.path.expandvars(name))
    unknown = re.match(r"~[^/]*|.*?(\$(\w+|\{\w+\}))", path)
    if unknown and not os.path.exists(path):
        what = f"variable {unknown[1]}" if unknown[1] else f"user {unknown[0]}"
        raise InputError(f"the path {name!r} cannot be expanded: there is no {what}.")
    return path


def is_address(name: str) -> bool:
    """Return whether text is an address such as "hf://USER/NAME" rather than a path or a name."""
    return "://" in name


def is_path(name: str) -> bool:
    """Return whether text is a path rather than a name such as "imagenet": it has a separator or a dot, or exists."""
    if is_address(name):
        return False
    return os.sep in name or "." in name or name.startswith("~") or os.path.exists(name)


def no_folder(path: str) -> str:
    """Return what a path is instead of a folder, to end a message: "; it is a file" with a way out, or ""."""
    if not os.path.isfile(os.path.expanduser(path)):
        return ""
    return "; it is a file, and an archive has to be unpacked first"


def absolute_dataset(name: str) -> str:
    """Return the name of a data set, such as "folder:photos", with an absolute path if it has one.

    A run then finds its images from any working directory.

    Raises:
        ValueError: the path cannot be expanded; see `expand`.
    """
    kind, path = path_kind(name)
    if not path or is_address(path):
        return name
    return f"{kind}:{os.path.abspath(path if os.path.isabs(path) else expand(path))}"


def without_folders(name: str) -> str:
    """Return a path or a data set's name for files that are published: "folder:photos" for "folder:/home/me/photos"."""
    kind, path = path_kind(name)
    if is_address(path or name) or not (kind or is_path(name)):
        return name
    return f"{kind}:{os.path.basename(os.path.normpath(path))}" if kind else os.path.basename(os.path.normpath(name))


def cache() -> pathlib.Path:
    """Return the folder of downloads and indexes: KERAS_RESNET_CACHE, or `keras_resnet` in the user's cache folder."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return pathlib.Path(folder)
    base = os.environ.get("XDG_CACHE_HOME")
    return (pathlib.Path(base) if base else pathlib.Path.home() / ".cache") / "keras_resnet"


def write(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a file by rename, so that at every moment it is the old one or the new one, also after a power cut.

    Args:
        path: the file, in a folder that exists.
        content: bytes, or text for UTF-8.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with open(partial, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def digest(path: str | os.PathLike, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file's content."""
    hashed = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()


def manifest_path(path: str | os.PathLike) -> pathlib.Path:
    """Return the path of a file's manifest."""
    path = pathlib.Path(path)
    return path.with_name(f"{path.name}.sha256")


def verify(path: str | os.PathLike) -> None:
    """Compare a file with its manifest; without one there is nothing to compare.

    Raises:
        ValueError: the file is not the one that the manifest was written for, or the manifest cannot be read.
    """
    manifest = manifest_path(path)
    try:
        text = manifest.read_text(encoding="ascii")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"manifest {str(manifest)!r} cannot be read: {error}.") from error
    known = re.findall(r"^([0-9a-f]{64})  ", text, re.MULTILINE)
    if not known:
        raise InputError(f"manifest {str(manifest)!r} holds no SHA-256 digest.")
    if digest(path) not in known:
        raise InputError(
            f"file {str(path)!r} is damaged or was replaced: its SHA-256 is not that of {manifest.name!r}; "
            "remove the manifest if the change is intended."
        )


def publish(partial: str | os.PathLike, path: str | os.PathLike) -> None:
    """Move a finished file to `path` and write its manifest.

    At every moment `path` holds the old or the new file and passes `verify`: for the time of the move the manifest
    lists both.

    Args:
        partial: the file, on the same file system as `path`.
        path: where it goes.
    """
    path, manifest = pathlib.Path(path), manifest_path(path)
    line = f"{digest(partial)}  {path.name}\n".encode()
    with open(partial, "rb+") as file:
        os.fsync(file.fileno())
    if manifest.exists():
        write(manifest, line + manifest.read_bytes())
    os.replace(partial, path)
    write(manifest, line)


PARTIAL = ".partial-keras-resnet-"
"""Prefix of the names of folders that are being written."""


def check_no_bracket(path: str | os.PathLike, argument: str = "out") -> None:
    """Raise `InputError` if a path has a bracket: TensorFlow would not find the variables that it writes there.

    Args:
        path: the path of a folder in which TensorFlow writes variables.
        argument: name of the caller's argument.
    """
    if "[" in os.fspath(path):
        raise InputError(
            f"{argument} must not have '[' in its path, which TensorFlow reads as a pattern; got {os.fspath(path)!r}."
        )


def check_new(out: str | os.PathLike | None, kind: str = "folder", argument: str = "out") -> None:
    """Raise `InputError` if `out` exists or cannot be created: commands overwrite only what they wrote in the same run.

    Nor may a folder have the name of a file, such as "model.onnx".

    Args:
        out: the path; None passes.
        kind: "folder" or "file", for the message.
        argument: name of the caller's argument.
    """
    if out is None:
        return
    if pathlib.Path(out).exists():
        raise InputError(f"{argument} must be a {kind} that does not exist yet; {os.fspath(out)!r} does.")
    if kind == "folder" and pathlib.Path(out).suffix.lower() in FILE_SUFFIXES:
        name = os.fspath(pathlib.Path(out).with_suffix(""))
        raise InputError(
            f"{argument} must be a folder to create, for several files; {os.fspath(out)!r} is the name of a file: "
            f"use {name!r}."
        )
    _check_can_create(pathlib.Path(out).absolute().parent, f"{argument} must be a writable {kind}")


def _check_can_create(folder: pathlib.Path, rule: str) -> None:
    """Raise `InputError`, which begins with a rule, if files cannot be written in a folder that need not exist yet."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise InputError(f"{rule}; {str(nearest)!r} is a file.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{rule}; there is no permission to write in {str(nearest)!r}.")


def check_absent(folder: pathlib.Path, names: Iterable[str], argument: str = "out") -> None:
    """Raise `InputError` if a folder, which need not exist, has one of some files to be written or is unwritable."""
    _check_can_create(folder.absolute(), f"{argument} must be a writable folder")
    for name in names:
        if (folder / name).exists():
            raise InputError(f"{argument} must be a folder without {name!r}; {str(folder)!r} has that file.")


def unique_stems(paths: Iterable[str | os.PathLike]) -> list[str]:
    """Return the names of files without their endings; a number is appended to a name that is taken."""
    stems: list[str] = []
    for path in paths:
        stem = candidate = pathlib.Path(path).stem
        count = 1
        while candidate in stems:
            count += 1
            candidate = f"{stem}_{count}"
        stems.append(candidate)
    return stems


def make_parent(out: str | os.PathLike, argument: str = "out") -> None:
    """Create the folder of a file that is about to be written.

    Args:
        out: path of the file.
        argument: name of the caller's argument.

    Raises:
        ValueError: it cannot be created.
    """
    parent = pathlib.Path(out).absolute().parent
    _check_can_create(parent, f"{argument} must be a writable file")
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
        raise InputError(f"{argument} must be a writable file; {os.fspath(out)!r} is not: {reason}.") from error


@contextlib.contextmanager
def new_folder(out: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Create a folder that appears complete or not at all: write into the yielded one, which then gets the name `out`.

    Raises:
        ValueError: `out` exists or cannot be written, for example on a full disk.
    """
    check_new(out)
    out = pathlib.Path(out).absolute()
    with staging(out.parent) as folder, _writable(out):
        yield folder
        fsync_tree(folder)
        with locked(out.parent):
            check_new(out)
            folder.rename(out)
            fsync(out.parent)


@contextlib.contextmanager
def remove_if_empty(folder: pathlib.Path) -> Iterator[None]:
    """Remove at the end a folder and those of its parents which were created meanwhile, if nothing is in them."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in missing:
            with contextlib.suppress(OSError):  # not empty
                path.rmdir()


@contextlib.contextmanager
def staging(parent: pathlib.Path) -> Iterator[pathlib.Path]:
    """Create a temporary folder in `parent` to write into; rename it when it is complete, or it is removed.

    A missing `parent` is created, and removed again if nothing was published in it. The folder is locked by this
    process. The lock ends with the process, and the next call removes the folders that killed processes left behind.

    Raises:
        ValueError: `parent` cannot be created or written.
    """
    parent = parent.absolute()
    folder = lock = None
    with remove_if_empty(parent):
        try:
            with _writable(parent):
                parent.mkdir(parents=True, exist_ok=True)
                with locked(parent):
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


LOCK = ".lock"
"""File of a run's folder that names the process which trains there; that process holds its lock."""

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""Errors of file systems that have no locks, such as some network file systems."""


@contextlib.contextmanager
def in_use(folder: str | os.PathLike, argument: str = "workdir") -> Iterator[None]:
    """Hold the lock of a run's folder, so that no other process trains in it; the end of the process releases it.

    A missing folder is created, and removed again if it stays empty.

    Args:
        folder: the folder.
        argument: name of the caller's argument.

    Raises:
        ValueError: another process holds the lock, the folder cannot be written, or its path has a bracket.
    """
    folder = pathlib.Path(folder)
    check_no_bracket(folder, argument)
    with remove_if_empty(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = _lock_file(folder / LOCK)
        except OSError as error:
            reason = error.strerror
            raise InputError(f"{argument} must be a writable folder; {str(folder)!r} is not: {reason}.") from error
        if handle is None:
            owner = (folder / LOCK).read_text(encoding="utf-8").strip() or "another process"
            raise InputError(f"{argument} {str(folder)!r} is in use by {owner}.")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # removed with the folder by the user
                (folder / LOCK).unlink()
            os.close(handle)


def _lock_file(path: pathlib.Path) -> int | None:
    """Create a file, lock it and write the owner into it; return the handle, or None if another process has it."""
    import fcntl  # absent on Windows

    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(handle)
                raise
        try:
            is_current = os.stat(path).st_ino == os.fstat(handle).st_ino
        except FileNotFoundError:  # the process before has removed it since it was opened
            is_current = False
        if is_current:
            os.truncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on host {socket.gethostname()}\n".encode())
            return handle
        os.close(handle)


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Wait until no other process holds the lock of a folder, and hold it."""
    handle = _lock(folder)
    try:
        yield
    finally:
        os.close(handle)


def fsync(path: pathlib.Path) -> None:
    """Wait until a file or a folder's list of files is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_tree(folder: pathlib.Path) -> None:
    """Wait until a folder with everything in it is on the disk."""
    for path in (*folder.rglob("*"), folder):
        fsync(path)


def _lock(folder: pathlib.Path) -> int:
    """Lock a folder until the returned handle is closed."""
    import fcntl  # absent on Windows

    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def _remove_leftovers(parent: pathlib.Path) -> None:
    """Remove the unfinished folders of processes that ended; `parent` is locked."""
    import fcntl  # absent on Windows

    for folder in parent.glob(f"{PARTIAL}*"):
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # its process is running
        else:
            shutil.rmtree(folder)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _writable(out: pathlib.Path) -> Iterator[None]:
    """Report a full disk or a missing permission as an error of the argument `out`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"out must be writable; {str(out)!r} is not: {reason}.") from error
