"""Web pages that classify images in the browser: a page, a TFLite file and its runtime, LiteRT.js, in one folder.

    out/index.html, demo.js             the page: `web.html` and `web.js` of this package
    out/network.json                    the classes and the preprocessing of photos
    out/resnet20_float32.tflite
    out/litert/                         LiteRT.js of npm

A browser that opens the page from any web server requests files of the folder and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Mapping

from keras_resnet import files
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.transforms import EvalTransform
from keras_resnet.errors import InputError, counted
from keras_resnet.quantization.integer import is_integer
from keras_resnet.serving import tflite
from keras_resnet.serving.source import ServableClassifier

VERSION = "2.5.3"
"""Version of LiteRT.js."""

PACKAGES = (f"@litertjs/core@{VERSION}", f"@litertjs/wasm-utils@{VERSION}")
"""What npm installs."""

RUNTIME = {
    "package.json": (
        "@litertjs/core/package.json",
        "1ba6b1c4b25c061cf97876e4846be92f8dfe312d2f78d82ee3ee92ab45c80987",
    ),
    "index.js": (
        "@litertjs/core/dist/index.js",
        "e7daccc3a31eef890848a737ccb863ded5f046a6b40c3fdc0556495adeb5d9b3",
    ),
    "wasm_utils.js": (
        "@litertjs/wasm-utils/dist/index.js",
        "e0e20bc28ab001ac732cf40d15b6eebd24fb0deaeb95eeba5100f51eebf015f2",
    ),
    "litert_wasm_internal.js": (
        "@litertjs/core/wasm/litert_wasm_internal.js",
        "68efb69f770e3f76aff36a377de629ca496c131b86ac0f0f4b592a1543a898eb",
    ),
    "litert_wasm_internal.wasm": (
        "@litertjs/core/wasm/litert_wasm_internal.wasm",
        "7280cf4471774867e385e6c3cd53e2b45e2975b80fea338fff4ef359b0865614",
    ),
    "litert_wasm_compat_internal.js": (
        "@litertjs/core/wasm/litert_wasm_compat_internal.js",
        "4d8f894b7883654fd6e8439730aa41e79ceaab7d19184fc4f1f0b0f1a2a2c8a5",
    ),
    "litert_wasm_compat_internal.wasm": (
        "@litertjs/core/wasm/litert_wasm_compat_internal.wasm",
        "5255c8ad06eabdbd2522cdebf6b22fc10faf74625c23a49b9e072570cd1fa41c",
    ),
}
"""File in `litert/` -> file in `node_modules` and its SHA-256. The files for threads, which need two headers of the web
server, and for graphics processors are left out. "compat" is for browsers without relaxed SIMD."""

IMPORTS = json.dumps({"imports": {"@litertjs/wasm-utils": "./litert/wasm_utils.js"}})
"""The import map of the page: `index.js` imports that name."""

logger = logging.getLogger(__name__)


def export(
    source: ServableClassifier,
    out: str | os.PathLike,
    *,
    variant: str = "float32",
    litert: str | os.PathLike | None = None,
    dataset: Dataset | None = None,
    calibration_split: str = "train",
    calibration_images: int | None = None,
) -> pathlib.Path:
    """Write a web page that classifies images with a trained network, in the browser.

    The folder appears by one rename, when it is complete.

    Args:
        source: the trained network, such as a `ClassifierRun`.
        out: folder to create; it must not exist.
        variant: the TFLite file, as for `tflite.export`.
        litert: folder in which npm has installed `PACKAGES`; by default, npm downloads them into the cache, once.
        dataset: images for the calibration of int8.
        calibration_split: as for `tflite.export`.
        calibration_images: as for `tflite.export`.

    Returns:
        The folder `out`.

    Raises:
        ValueError: the source has no weights, `out` exists or cannot be written, there are too few images, or as for
            `runtime`.
    """
    out = pathlib.Path(out).absolute()
    tflite.check(out, (variant,))
    model, calibration = source.load(), None
    if tflite.needs_calibration((variant,), is_integer(model)):
        transform = EvalTransform.unnormalized(source.photo_transform())
        calibration = tflite.calibrate(dataset, calibration_split, calibration_images, transform)
    litert_files = runtime(litert)
    with files.new_folder(out) as folder:
        path = tflite.write(source, model, folder, (variant,), calibration)[variant]
        described = describe(source, path, variant)
        (folder / "network.json").write_text(json.dumps(described, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / "litert").mkdir()
        for name, content in litert_files.items():
            (folder / "litert" / name).write_bytes(content)
        (folder / "index.html").write_text(page(), encoding="utf-8")
        shutil.copyfile(pathlib.Path(__file__).with_name("web.js"), folder / "demo.js")
    return out


def describe(source: ServableClassifier, path: pathlib.Path, variant: str) -> dict[str, object]:
    """Return what the page must know of a network and its TFLite file, in JSON's types."""
    info, transform = source.dataset_info, EvalTransform.unnormalized(source.photo_transform())
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    return {
        "title": f"{source.config.model} for {files.without_folders(info.name)}",
        "description": f"{counted(len(info.class_names), 'class', 'classes')}, {variant}, {size}.",
        "file": path.name,
        "classes": list(info.class_names),
        "size": list(transform.size),
        "resize": transform.resize,
        "exif": transform.exif,
    }


def page() -> str:
    """Return the page: its policy allows no request to other hosts, and no script but its own and the import map."""
    digest = base64.b64encode(hashlib.sha256(IMPORTS.encode()).digest()).decode()
    template = pathlib.Path(__file__).with_name("web.html").read_text(encoding="utf-8")
    return template.replace("{{imports}}", IMPORTS).replace("{{hash}}", digest)


def runtime(litert: str | os.PathLike | None = None) -> Mapping[str, bytes]:
    """Return the files of LiteRT.js: name -> content, all compared with their SHA-256.

    Args:
        litert: folder in which npm has installed `PACKAGES`, or its `node_modules`; by default the cache, into which
            npm installs them if they are not there.

    Raises:
        ValueError: the folder has other files, or npm is not installed or fails.
    """
    if litert is not None:
        folder = pathlib.Path(litert) / "node_modules"
        return _read(folder if folder.is_dir() else pathlib.Path(litert))
    cache = files.cache() / f"litertjs-{VERSION}"
    if all((cache / source).is_file() for source, _ in RUNTIME.values()):
        return _read(cache)
    with tempfile.TemporaryDirectory() as temporary:
        _install(temporary)
        content = _read(pathlib.Path(temporary, "node_modules"))
    for name, (source, _) in RUNTIME.items():
        files.make_parent(cache / source, files.CACHE_VARIABLE)
        files.write(cache / source, content[name])
    return content


def _read(folder: pathlib.Path) -> dict[str, bytes]:
    """Read and check the files of LiteRT.js in a folder `node_modules`."""
    content = {}
    for name, (source, digest) in RUNTIME.items():
        path = folder / source
        content[name] = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content[name]).hexdigest() != digest:
            what = "is of another version" if path.is_file() else "does not exist"
            raise InputError(
                f"litert must be a folder in which `npm install {' '.join(PACKAGES)}` was run; {str(path)!r} {what}."
            )
    return content


def _install(folder: str) -> None:
    """Let npm install `PACKAGES` in a folder."""
    npm, packages = shutil.which("npm"), " ".join(PACKAGES)
    if npm is None:
        raise InputError(
            f"format 'web' requires npm, which is not installed, or --litert=FOLDER, a folder in which `npm install "
            f"{packages}` was run."
        )
    logger.info("npm install %s", packages)
    command = [npm, "install", f"--prefix={folder}", "--ignore-scripts", "--no-audit", "--no-fund", *PACKAGES]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[0] if lines else f"exit code {done.returncode}"
        raise InputError(f"`npm install {packages}` failed ({reason}); on another machine it may not, see --litert.")
