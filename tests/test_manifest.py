"""The manifest beside a file."""

import os
import subprocess

import pytest

from keras_resnet import files


def publish(path, content):
    partial = path.with_name("partial")
    partial.write_bytes(content)
    files.publish(partial, path)


def test_sha256sum_reads_it(tmp_path):
    path = tmp_path / "a file.h5"
    publish(path, b"new")
    checked = subprocess.run(["sha256sum", "-c", "a file.h5.sha256"], cwd=tmp_path, capture_output=True, text=True)
    assert checked.stdout == "a file.h5: OK\n"
    files.verify(path)
    path.write_bytes(b"other")
    with pytest.raises(ValueError, match=r"'.*a file.h5' is damaged or was replaced: its SHA-256 is not that of"):
        files.verify(path)
    files.manifest_path(path).unlink()
    files.verify(path)


@pytest.mark.parametrize("before", ["nothing", "a file", "a file and its manifest"])
@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_stop_at_any_moment_leaves_the_old_or_the_new_file(before, calls, tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    if before == "a file":
        path.write_bytes(b"old")
    elif before != "nothing":
        publish(path, b"old")
    replace, done = os.replace, []

    def stopped(*paths):
        if len(done) == calls:
            raise KeyboardInterrupt
        done.append(paths)
        replace(*paths)

    monkeypatch.setattr(os, "replace", stopped)
    try:
        publish(path, b"new")
    except KeyboardInterrupt:
        pass
    else:
        assert calls == 2
        assert before != "a file and its manifest"
    monkeypatch.undo()
    if path.exists():
        files.verify(path)
        assert path.read_bytes() in (b"old", b"new")
    publish(path, b"newer")
    files.verify(path)
    assert files.manifest_path(path).read_text().count("\n") == 1
