"""Weights in repositories of the Hugging Face Hub, with a stand-in for it: published, fetched, refused."""

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

import keras_resnet
from keras_resnet import files
from keras_resnet.models.weights import hub, published
from keras_resnet.models.weights.info import CARD, WEIGHTS
from tests import hub as stand_in
from tests.networks import weights_folder

pytest.importorskip("huggingface_hub")
ROOT = pathlib.Path(__file__).parents[3]
ADDRESS = "hf://user/net"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return weights_folder(tmp_path_factory.mktemp("hub") / "net", keras_resnet.ResNet20(classes=3))


@pytest.fixture
def server(monkeypatch):
    with stand_in.running() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("HF_TOKEN", "right")
        yield running


@pytest.fixture
def no_connection(monkeypatch):
    """What ends the connection; huggingface_hub's retries do not wait."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return lambda: monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def uploaded(server, folder):
    """The files of a repository that holds the folder."""
    server.repos["user/net"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    return server.repos["user/net"]


def change_card(uploaded, **values):
    """Change fields of the card in a repository; None removes one."""
    card = {**json.loads(uploaded[CARD]), **values}
    card = {name: value for name, value in card.items() if values.get(name, 0) is not None}
    uploaded[CARD] = json.dumps(card).encode()


@pytest.mark.soak
def test_published_and_fetched_in_another_process(server, cache, folder, tmp_path):
    assert hub.upload(folder, ADDRESS).startswith(f"{server.address}/user/net/commit/")
    assert server.repos["user/net"] == {path.name: path.read_bytes() for path in folder.iterdir()}
    code = (
        "import numpy as np, keras_resnet\n"
        f"model = keras_resnet.ResNet20(weights={ADDRESS!r}, classes=3)\n"
        f"np.savez({str(tmp_path / 'got.npz')!r}, *model.get_weights())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    expected = keras_resnet.ResNet20(weights=folder / WEIGHTS, classes=3).get_weights()
    with np.load(tmp_path / "got.npz") as got:
        for name, values in zip(got.files, expected, strict=True):
            np.testing.assert_array_equal(got[name], values)
    assert sorted(path.name for path in cache.rglob("*")) == [CARD, "hub", "main", WEIGHTS, "net", "user"]


def test_the_file_is_downloaded_once_and_a_new_version_again(server, uploaded, cache, folder):
    path = published.fetch(published.find(ADDRESS))
    assert path.read_bytes() == uploaded[WEIGHTS]
    published.fetch(published.find(ADDRESS, "resnet20"))
    assert sum(request.endswith(WEIGHTS) for request in server.requests) == 2  # the HEAD and GET of one download
    uploaded[WEIGHTS] += b" "
    change_card(uploaded, digest=f"sha256:{stand_in.hashlib.sha256(uploaded[WEIGHTS]).hexdigest()}")
    assert published.fetch(published.find(ADDRESS)).read_bytes() == uploaded[WEIGHTS]


def test_without_a_connection_the_last_download_is_used(uploaded, cache, no_connection):
    expected = published.fetch(published.find(ADDRESS)).read_bytes()
    no_connection()
    info = published.find(ADDRESS)
    assert info.class_names == ("class0", "class1", "class2")
    assert published.fetch(info).read_bytes() == expected


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("cut", r"'hf://user/net' could not be downloaded \(model.safetensors: "),
        ("tampered", r"the download is not the file of the card \(its digest is not sha256:"),
        ("other network", r"weights 'hf://user/net' are of resnet56; the network is resnet20\."),
        ("no field", r"'hf://user/net' cannot be used: its metadata on preprocessing has no 'class_names'\."),
        ("no digest", r"'hf://user/net' cannot be used: its config.json does not state the SHA-256 of model"),
        ("other library", r"its config.json is not one of this package"),
        ("no card", r"'hf://user/net' could not be downloaded \(config.json: "),
        ("no repository", r"'hf://user/net' could not be downloaded \(config.json: "),
        ("no connection", r"'hf://user/net' could not be downloaded \(config.json: .*; check the address"),
    ],
)
def test_what_is_refused_leaves_the_cache_clean(case, message, server, uploaded, cache, no_connection):
    if case == "cut":
        server.cut.add(WEIGHTS)
    elif case == "tampered":
        uploaded[WEIGHTS] = uploaded[WEIGHTS][:-1] + bytes([uploaded[WEIGHTS][-1] ^ 1])
    elif case == "other network":
        change_card(uploaded, model="resnet56")
    elif case == "no field":
        change_card(uploaded, class_names=None)
    elif case == "no digest":
        change_card(uploaded, digest=None)
    elif case == "other library":
        uploaded[CARD] = b'{"architectures": ["ResNetForImageClassification"]}'
    elif case == "no card":
        del uploaded[CARD]
    elif case == "no repository":
        server.repos.clear()
    elif case == "no connection":
        no_connection()
    with pytest.raises(ValueError, match=message) as caught:
        keras_resnet.ResNet20(weights=ADDRESS, classes=3)
    assert len(str(caught.value).splitlines()) == 1
    assert not cache.exists()


@pytest.mark.parametrize("address", ["hf://", "hf://user", "hf://user/net/file", "hf://user/net@"])
def test_other_addresses_are_refused(address):
    with pytest.raises(ValueError, match=r"weights must be hf://USER/NAME or hf://USER/NAME@REVISION; got 'hf://"):
        keras_resnet.ResNet20(weights=address)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"require huggingface_hub: pip install 'keras-resnet-zoo\[hub\]'"):
        keras_resnet.ResNet20(weights=ADDRESS)


def test_without_permission_nothing_is_published(server, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(ValueError, match=r"'hf://user/net' cannot be written \(.*\); log in with `hf auth login`"):
        hub.upload(folder, ADDRESS)
    assert server.repos == {}
