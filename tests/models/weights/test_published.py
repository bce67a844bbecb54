"""The table of published weights, and downloads that are complete or absent."""

import functools
import hashlib
import http.server
import json
import pathlib
import signal
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet import files
from keras_resnet.classification.pretrained import Pretrained
from keras_resnet.cli import main as cli
from keras_resnet.models import weights, zoo
from keras_resnet.models.weights import published
from keras_resnet.models.weights.info import WEIGHTS
from tests.networks import weights_folder


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a folder under `/good/`; `/cut/` closes the connection early, `/slow/` stalls."""

    def do_GET(self):
        if self.path.startswith("/good/"):
            self.path = self.path.removeprefix("/good")
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(bytes(1000))
        self.wfile.flush()
        if self.path.startswith("/slow/"):
            time.sleep(30)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The folder and address of a server with one weights file, `net.weights.h5`."""
    folder = tmp_path_factory.mktemp("served")
    weights.save(keras_resnet.ResNet20(), folder / "net.weights.h5")
    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=str(folder)))
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{http_server.server_port}"
    http_server.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def entry(server, where="good", digest=None):
    folder, address = server
    digest = digest or hashlib.sha256((folder / "net.weights.h5").read_bytes()).hexdigest()
    return published.ModelInfo(
        "resnet20",
        "torch",
        32,
        0,
        (),
        weights="named",
        url=f"{address}/{where}/net.weights.h5",
        digest=f"sha256:{digest}",
    )


def test_the_constructor_downloads_once_and_then_works_offline(server, cache, monkeypatch):
    good = entry(server)
    monkeypatch.setattr(published, "PUBLISHED", (good,))
    monkeypatch.setattr(zoo, "FOLDER", cache)
    model = keras_resnet.ResNet20(weights="named")
    assert [path.name for path in cache.iterdir()] == ["net.weights.h5"]
    monkeypatch.setattr(published, "_download", lambda *_: pytest.fail("downloaded again"))
    again = keras_resnet.ResNet20(weights="named", classes=3)
    for one, two in zip(model.get_weights()[:-2], again.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(one, two)
    no_names = r"weights must be None or the path of an existing file \({} has no weights by name\); got 'named'"
    with pytest.raises(ValueError, match=no_names.format("plainnet20")):
        keras_resnet.PlainNet20(weights="named")
    with pytest.raises(ValueError, match=no_names.format("resnet32")):
        keras_resnet.ResNet32(weights="named")


@pytest.mark.parametrize(
    ("where", "digest", "message"),
    [
        (
            "cut",
            None,
            r"could not be downloaded from http.* \(the connection closed after 1,000 of 1,000,000 bytes\); save",
        ),
        ("good", "0" * 8, r"is not the published file \(its digest is not sha256:00000000\); save the file as"),
    ],
)
def test_other_files_are_not_saved(where, digest, message, server, cache):
    with pytest.raises(ValueError, match=message):
        published.fetch(entry(server, where, digest))
    assert list(cache.iterdir()) == []


def test_without_a_connection(cache):
    info = published.ModelInfo(
        "resnet20", "torch", 32, 0, (), weights="named", url="http://127.0.0.1:9/a.th", digest="md5:0"
    )
    with pytest.raises(
        ValueError, match=r"'named' of resnet20 could not be downloaded from http.*refused.*cache/a\.th'"
    ):
        published.fetch(info)
    assert list(cache.iterdir()) == []


def test_a_changed_file_in_the_cache_is_rejected(server, cache):
    path = published.fetch(entry(server))
    path.write_bytes(path.read_bytes() + b"0")
    with pytest.raises(ValueError, match=r"is not the published file .* remove it to download it again"):
        published.fetch(entry(server))


def test_killing_a_download_leaves_no_complete_file(server, cache):
    script = (
        "import json, sys; from keras_resnet.models.weights import published; "
        "published.fetch(published.ModelInfo.from_dict(json.loads(sys.argv[1])))"
    )
    slow = json.dumps(entry(server, "slow").to_dict())
    process = subprocess.Popen([sys.executable, "-c", script, slow])
    deadline = time.monotonic() + 60
    while not (cache.is_dir() and list(cache.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [path.name[:9] for path in cache.iterdir()] == [".partial-"]
    path = published.fetch(entry(server))
    assert path.read_bytes() == (server[0] / "net.weights.h5").read_bytes()


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(files.CACHE_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert files.cache() == tmp_path / ".cache" / "keras_resnet"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert files.cache() == tmp_path / "x" / "keras_resnet"


def test_digests_and_urls_match_keras_applications():
    from keras.src.applications import resnet

    for info in published.PUBLISHED:
        if info.digest.startswith("md5:"):
            assert info.digest == f"md5:{resnet.WEIGHTS_HASHES[info.model][0]}"
            assert info.url == f"{resnet.BASE_WEIGHTS_PATH}{info.model}_weights_tf_dim_ordering_tf_kernels.h5"


def test_every_entry_is_complete():
    assert len({(info.model, info.weights) for info in published.PUBLISHED}) == len(published.PUBLISHED) == 19
    for info in published.PUBLISHED:
        assert info.url.startswith("https://")
        assert info.source
        assert info.licence
        assert 6 < info.top1_error < 31
        assert info.resize == 0 or info.resize > info.image_size
        assert len(info.class_names) in (10, 1000)
        algorithm, digits = info.digest.split(":")
        assert algorithm == "md5" or digits in info.url
        assert published.ModelInfo.from_dict(json.loads(json.dumps(info.to_dict()))) == info


def test_model_info():
    info = keras_resnet.model_info("resnet50")
    assert (info.weights, info.mode, info.image_size, info.resize) == ("imagenet", "caffe", 224, 256)
    assert info.class_names[207] == "golden retriever"
    assert keras_resnet.model_info("resnet34").weights == "imagenet"
    second = keras_resnet.model_info("resnet50", "imagenet_torchvision_v2")
    assert (second.resize, second.stride_in_1x1, second.top1_error) == (232, False, 19.142)
    with pytest.raises(
        ValueError,
        match=r"weights must be one of 'imagenet', .* for resnet50 or the path of an existing file; .* 'imagenette'",
    ):
        keras_resnet.model_info("resnet50", "imagenette")
    with pytest.raises(ValueError, match=r"name must be one of .*; got 'resnet5x' \(did you mean 'resnet5"):
        keras_resnet.model_info("resnet5x")
    x = np.random.default_rng(0).uniform(0, 255, (1, 2, 2, 3))
    expected = keras.applications.resnet.preprocess_input(x.copy())
    np.testing.assert_allclose(keras_resnet.preprocess_input(x, mode=info.normalization), expected, atol=1e-4)


def test_unknown_names_list_the_nearest_first():
    for name, first in (("torchvision_v2", "imagenet_torchvision_v2"), ("imagnet", "imagenet")):
        with pytest.raises(ValueError, match=f"weights must be None, one of '{first}', .* there is no file '{name}'"):
            keras_resnet.ResNet50(weights=name)
    with pytest.raises(ValueError, match=r"\(resnet has no weights by name\); got 'imagenet'"):
        keras_resnet.ResNet([(8, 1, 1)], weights="imagenet")


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Weights of ResNet-20 for three classes as part of the package, called "tiny", and their network."""
    model = keras_resnet.ResNet20(classes=3)
    folder = weights_folder(tmp_path / "zoo" / "resnet20_tiny", model, weights="tiny", seed=7, top1_error=12.5)
    monkeypatch.setattr(zoo, "FOLDER", tmp_path / "zoo")
    monkeypatch.setattr(published, "_download", lambda *_: pytest.fail("downloaded"))
    return folder, model


def test_weights_in_the_package(packaged, cache, capsys):
    folder, model = packaged
    assert keras_resnet.list_weights("resnet20") == [("resnet20", "tiny"), ("resnet20", "cifar10_akamaster")]
    info = keras_resnet.model_info("resnet20")
    assert (info.weights, info.seed, info.top1_error, info.normalization.std) == ("tiny", 7, 12.5, (4.0, 5.0, 6.0))
    again = keras_resnet.ResNet20(weights="tiny", classes=3)
    for one, two in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(ValueError, match="one of 'tiny', 'cifar10_akamaster' for resnet20 or the path of"):
        keras_resnet.ResNet20(weights="tinny")
    assert '| resnet20 | `"tiny"` |' in published.table()
    assert not cache.exists()

    image = folder / "photo.png"
    Image.fromarray(np.full((40, 50, 3), 90, "uint8")).save(image)
    assert cli.run("predict", ["--weights=tiny", "--model=resnet20", "--top=1", str(image)]) == 0
    source = Pretrained.open("tiny", "resnet20")
    pixels = (np.full((1, 32, 32, 3), 90.0) - [1, 2, 3]) / [4, 5, 6]
    best = source.load()(pixels).numpy()[0]
    assert capsys.readouterr().out == f"{image}: class{best.argmax()} {best.max():.3f}\n"

    assert cli.run("predict", ["--weights=tini", "--model=resnet20", str(image)]) == 1
    assert "existing file or one of 'tiny', " in capsys.readouterr().err

    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(ValueError, match=r"'tiny' of resnet20: .* is missing or damaged .*; reinstall the package"):
        keras_resnet.ResNet20(weights="tiny")


def test_the_docs_contain_the_table():
    text = pathlib.Path(__file__).parents[3].joinpath("docs", "weights.md").read_text(encoding="utf-8")
    assert published.table() in text
    assert sum("not verified" in line for line in published.table().splitlines()) == len(published.PUBLISHED) - 2
