"""Files and folders that appear complete or not at all."""

import os

import pytest

from keras_resnet import files
from keras_resnet.errors import InputError


def test_text_and_bytes(tmp_path):
    files.write(tmp_path / "text", "ä\n")
    files.write(tmp_path / "bytes", b"\x00\xff")
    assert (tmp_path / "text").read_bytes() == b"\xc3\xa4\n"
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert sorted(os.listdir(tmp_path)) == ["bytes", "text"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(broken, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="No space left"):
        files.write(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with files.new_folder(tmp_path / "parent" / "out") as folder:
        (folder / "file").write_text("content")
        assert not (tmp_path / "parent" / "out").exists()
    assert (tmp_path / "parent" / "out" / "file").read_text() == "content"
    assert os.listdir(tmp_path / "parent") == ["out"]
    with pytest.raises(ValueError, match="out must be a folder that does not exist yet"), files.new_folder(tmp_path):
        pytest.fail("an existing folder was accepted")


def test_a_failure_leaves_no_folder(tmp_path):
    def fill(error):
        with files.new_folder(tmp_path / "parent" / "out") as folder:
            (folder / "file").write_text("content")
            raise error

    with pytest.raises(ValueError, match=r"out must be writable; '.*/parent/out' is not: No space left on device\."):
        fill(OSError(28, "No space left on device"))
    with pytest.raises(RuntimeError):
        fill(RuntimeError())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "check", [files.check_new, lambda out: files.check_absent(out.parent, ["photo.png"]), files.make_parent]
)
def test_what_cannot_be_created_is_refused_before_the_work(check, tmp_path, monkeypatch):
    if check != files.make_parent:
        check(tmp_path / "new/folder/out")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"^out must be a writable (folder|file); '.*notes.txt' is a file\.$"):
        check(tmp_path / "notes.txt/folder/out")
    monkeypatch.setattr(files.os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(InputError, match=rf"there is no permission to write in '{tmp_path}'"):
        check(tmp_path / "new/folder/out")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("folder:/home/me/photos", "folder:photos"),
        ("folder:/home/me/photos/", "folder:photos"),
        ("tfrecord:gs://bucket/train-*", "tfrecord:gs://bucket/train-*"),
        ("coco:1.1.0", "coco:1.1.0"),
        ("cifar10", "cifar10"),
        ("/home/me/runs/r20", "r20"),
        ("hf://user/name", "hf://user/name"),
    ],
)
def test_names_that_are_published_have_no_folders(name, expected):
    assert files.without_folders(name) == expected


def test_a_folder_with_the_name_of_a_file_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"out must be a folder to create.*'\S+model\.ONNX' is the name of a file: use '\S+/model'"
    ):
        files.check_new(tmp_path / "model.ONNX")
    for name in ("model", "resnet50.v1", "a.b"):
        files.check_new(tmp_path / name)
    files.check_new(tmp_path / "model.onnx", "file")
