"""Files that are written whole or not at all, and their SHA-256 manifests.

A manifest is the file `NAME.sha256` next to `NAME`, in the format of `sha256sum`: HDF5 and safetensors have no
checksum.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import re

from keras_resnet.errors import InputError


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
    """Where the manifest of a file lies."""
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
