"""Publishing versions: complete or not at all."""

import multiprocessing
import os
import pathlib
import resource
import signal
import subprocess
import threading
import time

import pytest

from keras_resnet import files
from keras_resnet.cli import main as cli
from keras_resnet.serving import publish
from tests.serving.soak_exports import soak


def version(base: pathlib.Path, number=None) -> pathlib.Path:
    with files.staging(base) as folder:
        (folder / "variables").mkdir()
        (folder / "variables" / "data").write_bytes(os.urandom(1000))
        (folder / "saved_model.pb").write_bytes(b"graph")
        return publish.publish(folder, base, number)


def names(base: pathlib.Path) -> list[str]:
    """The names in a folder of versions, without the versions' manifests."""
    found = {path.name for path in base.iterdir()}
    manifests = {f"{name}.sha256" for name in found if name.isdigit()} & found
    return sorted(found - manifests)


def test_versions_count_up(tmp_path):
    base = tmp_path / "new" / "models"
    assert version(base).name == "1"
    assert version(base).name == "2"
    assert version(base, 20171113173521).name == "20171113173521"
    assert version(base).name == "20171113173522"
    assert len(names(base)) == 4
    publish.verify(base / "1")


def test_which_names_are_versions(tmp_path):
    for name in ("00000123", "7", "-3", ".tmp-9", "8.denied", "nine", "1_0"):
        (tmp_path / name).mkdir()
    assert publish.version_numbers(tmp_path) == {123, 7, -3}
    assert version(tmp_path).name == "124"


def test_existing_versions_and_wrong_folders_are_rejected(tmp_path):
    base = tmp_path / "m"
    first = version(base)
    (base / "0005").mkdir()
    for number in (1, 5):
        with pytest.raises(ValueError, match=rf"version must be a new one; .* has version {number} already"):
            version(base, number)
    with pytest.raises(ValueError, match="version must be at least 1; got 0"):
        version(base, 0)
    with pytest.raises(ValueError, match="out must be the folder of all versions"):
        publish.check_version(first, None)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="out must be a folder"):
        publish.check_version(tmp_path / "file", None)
    assert names(base) == ["0005", "1"]


def test_a_failure_leaves_nothing(tmp_path):
    base = tmp_path / "a" / "b"
    with pytest.raises(RuntimeError), files.staging(base) as folder:  # noqa: PT012
        (folder / "half").write_text("written")
        raise RuntimeError
    assert names(tmp_path) == []
    with pytest.raises(ValueError, match=r"out must be writable; '/proc/none/m' is not"):
        version(pathlib.Path("/proc/none/m"))


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "added"])
def test_the_manifest_detects_every_change(tmp_path, damage):
    path = version(tmp_path)
    data = path / "variables" / "data"
    content = bytearray(data.read_bytes())
    if damage == "flip":
        content[500] ^= 4
        data.write_bytes(content)
    elif damage == "cut":
        data.write_bytes(content[:-1])
    elif damage == "missing":
        data.unlink()
    else:
        (path / "more").write_text("")
    with pytest.raises(ValueError, match="manifest"):
        publish.verify(path)


def test_the_manifest_is_that_of_sha256sum(tmp_path):
    path = version(tmp_path)
    subprocess.run(["sha256sum", "--check", "--strict", publish.MANIFEST], cwd=path, check=True, capture_output=True)
    (path / publish.MANIFEST).unlink()
    with pytest.raises(ValueError, match=r"must have a file manifest\.sha256"):
        publish.verify(path)


def _hold(base, started):
    with files.staging(base) as folder:
        (folder / "half").write_text("written")
        started.set()
        time.sleep(60)


def test_leftovers_of_killed_exports_are_removed_and_those_of_running_ones_kept(tmp_path):
    context = multiprocessing.get_context("spawn")
    holders = []
    for _ in range(2):
        started = context.Event()
        holders.append(context.Process(target=_hold, args=(tmp_path, started)))
        holders[-1].start()
        assert started.wait(30)
    assert len(names(tmp_path)) == 2
    os.kill(holders[0].pid, signal.SIGKILL)
    holders[0].join()
    assert version(tmp_path).name == "1"
    assert len(names(tmp_path)) == 2
    holders[1].kill()
    holders[1].join()
    assert version(tmp_path).name == "2"
    assert names(tmp_path) == ["1", "2"]


def test_simultaneous_exports_get_different_numbers(tmp_path):
    threads = [threading.Thread(target=version, args=(tmp_path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(tmp_path) == sorted(map(str, range(1, 9)))
    for path in filter(pathlib.Path.is_dir, tmp_path.iterdir()):
        publish.verify(path)


@pytest.mark.soak
def test_exports_that_are_killed():
    """A short run of `python -m tests.serving.soak_exports`."""
    result = soak(exports=3, kills=1)
    assert result["violations"] == []
    assert result["exports that ended"] == 2
    # An export may be killed after its rename.
    assert 2 <= result["versions seen"] <= 3
    assert result["such folders at the end"] <= 1


@pytest.mark.parametrize("format", ["saved_model", "tflite"])
def test_a_full_disk(format, digits_run, tmp_path, capsys):
    arguments = [f"--workdir={digits_run}", f"--format={format}", f"--out={tmp_path}/new/m"]
    arguments += ["--noreport", "--variants=float32"] if format == "tflite" else []
    # A limit on the size of a file ends a write as a full disk does, with an error of the operating system.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        assert cli.run("export", arguments) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "keras-resnet export: out must be writable" in capsys.readouterr().err
    assert names(tmp_path) == []
