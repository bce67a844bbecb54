"""Shared by the tests of localization: a tiny backbone, and a trained run of each stage."""

import pathlib

import pytest

from tests.localization.nets import TINY
from tests.localization.runs import first, second


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Write drawn images to a temporary folder."""
    from keras_resnet import files

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(files.CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def tiny_backbone(monkeypatch):
    """Make `nets.TINY` a backbone that configurations can name."""
    from keras_resnet.detection.config import BACKBONES

    monkeypatch.setitem(BACKBONES, "tiny", TINY)


@pytest.fixture(scope="session")
def session_runs(tmp_path_factory, cache) -> tuple[pathlib.Path, pathlib.Path]:
    """The folders of a run of stage 1 and of a run of stage 2 on its proposals."""
    from keras_resnet.detection.config import BACKBONES
    from keras_resnet.localization import train

    root = tmp_path_factory.mktemp("localization")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny", TINY)
        train.train(first(), root / "first")
        train.train(second(root / "first"), root / "second")
    return root / "first", root / "second"


@pytest.fixture
def trained_runs(session_runs, tiny_backbone) -> tuple[pathlib.Path, pathlib.Path]:
    """The folders of the runs of both stages, which tests share and must not change."""
    return session_runs
