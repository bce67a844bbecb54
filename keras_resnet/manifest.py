"""A file's SHA-256 beside it, `NAME.sha256` in the format of `sha256sum`: HDF5 and safetensors carry no checksum."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re

from keras_resnet import files
from keras_resnet.errors import InputError


def digest(path: str | os.PathLike, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file's content."""
    hashed = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()


def path_of(path: str | os.PathLike) -> pathlib.Path:
    """Where the manifest of a file lies."""
    path = pathlib.Path(path)
    return path.with_name(f"{path.name}.sha256")


def verify(path: str | os.PathLike) -> None:
    """Compare a file with its manifest; without one there is nothing to compare.

    Raises:
        ValueError: the file is not the one that the manifest was written for, or the manifest cannot be read.
    """
    manifest = path_of(path)
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
    path, manifest = pathlib.Path(path), path_of(path)
    line = f"{digest(partial)}  {path.name}\n".encode()
    with open(partial, "rb+") as file:
        os.fsync(file.fileno())
    if manifest.exists():
        files.write(manifest, line + manifest.read_bytes())
    os.replace(partial, path)
    files.write(manifest, line)
