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

import keras_resnet
from keras_resnet.models import weights
from keras_resnet.models.weights import published


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
    monkeypatch.setenv(published.CACHE_VARIABLE, str(tmp_path / "cache"))
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
    model = keras_resnet.ResNet20(weights="named")
    assert [path.name for path in cache.iterdir()] == ["net.weights.h5"]
    monkeypatch.setattr(published, "_download", lambda *_: pytest.fail("downloaded again"))
    again = keras_resnet.ResNet20(weights="named", classes=3)
    for one, two in zip(model.get_weights()[:-2], again.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(
        ValueError,
        match="weights by name are available for the paper's residual networks only",
    ):
        keras_resnet.PlainNet20(weights="named")
    with pytest.raises(ValueError, match="name must be one of resnet20; got 'resnet32'"):
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
    monkeypatch.delenv(published.CACHE_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert published.cache() == tmp_path / ".cache" / "keras_resnet"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert published.cache() == tmp_path / "x" / "keras_resnet"


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
        ValueError, match=r"weights must be one of 'imagenet', .* for resnet50, or a path; got 'imagenette'"
    ):
        keras_resnet.model_info("resnet50", "imagenette")
    x = np.random.default_rng(0).uniform(0, 255, (1, 2, 2, 3))
    expected = keras.applications.resnet.preprocess_input(x.copy())
    np.testing.assert_allclose(keras_resnet.preprocess_input(x, info.normalization), expected, atol=1e-4)


def test_the_docs_contain_the_table():
    text = pathlib.Path(__file__).parents[3].joinpath("docs", "weights.md").read_text(encoding="utf-8")
    assert published.table() in text
    assert published.table().count("not verified") == len(published.PUBLISHED) - 2
