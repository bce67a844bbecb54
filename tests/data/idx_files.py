"""Write IDX files for tests, from the description of the format."""

import gzip
import struct


def encoded(array, kind=8):
    """Return the bytes of an IDX file."""
    header = struct.pack(">BBBB", 0, 0, kind, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype("uint8").tobytes()


def folder(path, images, labels, compress=True):
    """Write the four files of a data set, half of it for testing; return the folder."""
    path.mkdir(exist_ok=True)
    half = len(labels) // 2
    for prefix, part in (("train", slice(half, None)), ("t10k", slice(half))):
        for name, content in (("images-idx3", images[part]), ("labels-idx1", labels[part])):
            target = path / f"{prefix}-{name}-ubyte{'.gz' if compress else ''}"
            target.write_bytes(gzip.compress(encoded(content)) if compress else encoded(content))
    return path
