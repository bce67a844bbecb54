"""A server without Keras (tests/serving/harness.py) and the client of examples/, over REST and gRPC."""

import base64
import json
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest

from tests.conftest import READABLE
from tests.serving.soak_requests import soak
from tests.serving.sources import encoded, smooth


@pytest.fixture(scope="module")
def server(published):
    """The ports of a server of the published network."""
    command = [sys.executable, "-m", "tests.serving.harness", f"--base={published.parent}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    yield json.loads(process.stdout.readline())
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def contents():
    random = np.random.default_rng(0)
    return [encoded(smooth(random, 40, 50)) for _ in range(2)]


def post(server, body, path="/v1/models/bottle:predict"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{server['rest_port']}{path}", data)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def b64(contents):
    return {"b64": base64.b64encode(contents).decode()}


PIXELS = [[[1, 2, 3]] * 40] * 40


def requests(contents):
    """(body, status): requests that TensorFlow Serving's REST API accepts and rejects."""
    first, second = map(b64, contents)
    named = [{"image_bytes": first}, {"image_bytes": second}]
    images = {"signature_name": "images"}
    features = {"signature_name": "features"}
    return [
        ({"instances": [first]}, 200),
        ({"instances": [first, second]}, 200),
        ({"instances": named}, 200),
        ({"inputs": [first, second]}, 200),
        ({"inputs": {"image_bytes": [first, second]}}, 200),
        ({"signature_name": "serving_default", "instances": [first]}, 200),
        ({**features, "instances": [first, second]}, 200),
        ({**features, "inputs": {"image_bytes": [first]}}, 200),
        ({**images, "instances": [PIXELS]}, 200),
        ({**images, "instances": [{"images": PIXELS}, {"images": PIXELS}]}, 200),
        ({**images, "inputs": [PIXELS]}, 200),
        ({**images, "inputs": {"images": [PIXELS]}}, 200),
        (b"", 400),
        (b"{", 400),
        (b"[1]", 400),
        ({}, 400),
        ({"instances": [first], "inputs": [first]}, 400),
        ({"instances": []}, 400),
        ({"instances": first}, 400),
        ({"instances": [first, {"image_bytes": second}]}, 400),
        ({"instances": [{"image": first}]}, 400),
        ({"instances": [{"image_bytes": first, "more": 1}]}, 400),
        ({"inputs": {"image": [first]}}, 400),
        ({"inputs": {"image_bytes": [first], "more": [1]}}, 400),
        ({"inputs": first}, 400),
        ({"instances": [[first]]}, 400),
        ({"instances": ["text"]}, 400),
        ({"instances": [1]}, 400),
        ({"instances": [None]}, 400),
        ({"instances": [{"b64": "not base64!"}]}, 400),
        ({"instances": [b64(b"")]}, 400),
        ({"instances": [first, b64(b"no image")]}, 400),
        ({"signature_name": "classify", "instances": [first]}, 400),
        ({**images, "instances": [first]}, 400),
        ({**images, "instances": PIXELS}, 400),
        ({**images, "instances": [[[1, 2, 3]]]}, 400),
        ({**images, "instances": [[[[1, 2]]]]}, 400),
        ({**images, "instances": [[[[0.5, 2, 3]]]]}, 400),
        ({**images, "instances": [[[[300, 2, 3]]]]}, 400),
        ({**images, "instances": [[[[1, 2, 3]], [[1, 2]]]]}, 400),
    ]


def test_bodies_and_status_codes(server, contents):
    table = requests(contents)
    assert len(table) == 40
    for body, status in table:
        code, answer = post(server, body)
        assert code == status, (body, answer)
        assert ("error" in answer) == (status != 200)


def test_answers(server, contents, source):
    _, rows = post(server, {"instances": [b64(content) for content in contents]})
    _, columns = post(server, {"inputs": [b64(content) for content in contents]})
    assert columns["outputs"]["classes"] == [row["classes"] for row in rows["predictions"]]
    transform = source.photo_transform()
    expected = source.model.predict_on_batch(
        transform.batch(np.stack([transform.decode(content) for content in contents]))
    )
    np.testing.assert_allclose(columns["outputs"]["probabilities"], expected, atol=1e-5)
    assert columns["outputs"]["classes"][0][0] == f"class {expected[0].argmax()}"


def test_missing_versions_and_models(server, contents):
    body = {"instances": [b64(contents[0])]}
    assert post(server, body, "/v1/models/bottle/versions/1:predict")[0] == 200
    assert post(server, body, "/v1/models/bottle/versions/2:predict")[0] == 404
    assert post(server, body, "/v1/models/other:predict")[0] == 404


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_the_example_client(server, contents, source, way, tmp_path):
    photos = [tmp_path / f"photo {number}.png" for number in range(2)]
    for photo, content in zip(photos, contents, strict=True):
        photo.write_bytes(content)
    place = f"http://127.0.0.1:{server['rest_port']}" if way == "rest" else f"127.0.0.1:{server['grpc_port']}"
    command = [sys.executable, "examples/serving_client.py", f"--{way}={place}", "--model=bottle"]
    result = subprocess.run([*command, *photos], capture_output=True, text=True)
    transform = source.photo_transform()
    expected = source.model.predict_on_batch(
        transform.batch(np.stack([transform.decode(content) for content in contents]))
    )
    lines = result.stdout.splitlines()
    assert len(lines) == 2, result.stderr
    for line, photo, scores in zip(lines, photos, expected, strict=True):
        assert line.startswith(f"{photo}: class {scores.argmax()} {scores.max():.3f}")
        assert line.count("class") == 5
    photos[1].write_bytes(b"no image")
    result = subprocess.run([*command, *photos], capture_output=True, text=True)
    assert result.returncode == 1
    assert f"the file is not a {READABLE} image" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_client_reports_a_missing_server(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    for way in ("--rest=http://127.0.0.1:1", "--grpc=127.0.0.1:1"):
        command = [sys.executable, "examples/serving_client.py", way, "--model=m", f"{tmp_path}/a.png"]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 1
        assert result.stderr.startswith("serving_client: ")
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"\x00\x00\x12\x04 this is no HTTP\r\n\r\n", "no answer from"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>", "HTTP status 502, Bad Gateway"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "is not TensorFlow Serving"),
    ],
)
def test_the_client_reports_another_server(answer, message, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as request:
                length = 0
                while line := request.readline().strip():
                    name, _, value = line.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                request.read(length)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        way = f"--rest=http://127.0.0.1:{server.getsockname()[1]}"
        command = [sys.executable, "examples/serving_client.py", way, "--model=m", f"{tmp_path}/a.png"]
        result = subprocess.run(command, capture_output=True, text=True)
        thread.join()
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.soak
def test_versions_change_under_load():
    """A short run of `python -m tests.serving.soak_requests`."""
    result = soak(clients=2, requests=50, versions=2, model="tiny")
    assert (result["failed"], result["wrong"], result["went back to an older version"]) == (0, 0, 0)
    assert result["answers"] >= 100
    assert result["versions published"] == result["versions that answered"] == 2
    assert result["modules of Keras or TensorFlow in the server"] == 0
