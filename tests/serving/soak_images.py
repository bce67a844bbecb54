"""Damaged images: the signature answers each with probabilities or with the one documented error.

python -m tests.serving.soak_images --images=20000
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib

import numpy as np

from tests.serving.harness import Model, ServingError
from tests.serving.sources import encoded, smooth

INVALID_ARGUMENT = 3


def originals(random: np.random.Generator) -> list[bytes]:
    """Small images of all formats."""
    image = smooth(random, 40, 50)
    formats = [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("GIF", {}), ("BMP", {}), ("WEBP", {})]
    formats += [("WEBP", {"lossless": True})]
    return [encoded(image, name, **options) for name, options in formats]


def mutated(contents: bytes, random: np.random.Generator) -> bytes:
    """Change bytes, cut, repeat or insert: one to four times."""
    contents = bytearray(contents)
    for _ in range(random.integers(1, 5)):
        at = int(random.integers(0, max(len(contents), 1)))
        # Half of the changes are in the header.
        at = min(at, int(random.integers(0, 64))) if random.random() < 0.5 else at
        kind = random.integers(0, 5)
        if kind == 0 and contents:
            contents[at] ^= 1 << int(random.integers(0, 8))
        elif kind == 1 and contents:
            contents[at] = int(random.choice([0, 1, 127, 128, 255]))
        elif kind == 2:
            del contents[at:]
        elif kind == 3:
            contents[at:at] = random.bytes(int(random.integers(1, 9)))
        else:
            del contents[at : at + int(random.integers(1, 9))]
    return bytes(contents)


def bomb(side: int = 10_000) -> bytes:
    """A valid black PNG of side x side pixels in few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compressobj(9)
    row = b"\0" * (3 * side + 1)
    data = b"".join(rows.compress(row) for _ in range(side)) + rows.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def resident() -> float:
    """Largest memory of this process so far in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def soak(model: Model, images: int, seed: int = 0) -> dict[str, object]:
    """Send mutated images, one a request; return the counts of outcomes."""
    random = np.random.default_rng(seed)
    files, counts, messages = originals(random), collections.Counter(), collections.Counter()
    for contents in files:
        model.run("serving_default", {"image_bytes": np.array([contents], object)})
    before = resident()
    for number in range(images):
        contents = mutated(files[number % len(files)], random)
        try:
            answer = model.run("serving_default", {"image_bytes": np.array([contents], object)})["probabilities"]
            counts["answered" if np.isfinite(answer).all() else "not finite"] += 1
        except ServingError as error:
            counts["refused" if error.code == INVALID_ARGUMENT else f"code {error.code}: {error}"] += 1
            messages[str(error).split("\n")[0].split("[Op")[0][:60]] += 1
    return {**counts, "growth MB": round(resident() - before, 1), "most frequent messages": messages.most_common(8)}


def refuse_bomb(model: Model) -> dict[str, float]:
    """Send the PNG of 10,000 x 10,000 pixels; return the median time of nine requests in ms, and the memory in MB."""
    contents = {"image_bytes": np.array([bomb()], object)}
    before, times = resident(), []
    for _ in range(9):
        start = time.perf_counter()
        try:
            model.run("serving_default", contents)
            raise AssertionError("it was decoded")
        except ServingError as error:
            if error.code != INVALID_ARGUMENT or "must have from 1 to" not in str(error):
                raise
        times.append(1e3 * (time.perf_counter() - start))
    return {
        "file KB": len(contents["image_bytes"][0]) // 1000,
        "ms": float(np.median(times)),
        "MB": resident() - before,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.export:
        import keras_resnet
        from keras_resnet.serving import saved_model
        from tests.serving.sources import Source, settle

        net = keras_resnet.ResNet([(8, 1, 1)], block="basic", stem="cifar", input_shape=(32, 32, 3), classes=5)
        saved_model.export(Source(settle(net), resize=36), arguments.export)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        base = pathlib.Path(folder, "tiny")
        subprocess.run([sys.executable, "-m", "tests.serving.soak_images", f"--export={base}"], check=True)
        model = Model(base / "1")
        print("10,000 x 10,000 PNG:", refuse_bomb(model))
        result = soak(model, arguments.images, arguments.seed)
    for name, value in result.items():
        print(f"{name}: {value}")
    return 0 if set(result) == {"answered", "refused", "growth MB", "most frequent messages"} else 1


if __name__ == "__main__":
    sys.exit(main())
