"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import pathlib


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
