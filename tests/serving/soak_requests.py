"""Clients that send requests while versions are published: every answer must be that of a published version.

    python -m tests.serving.soak_requests --clients=8 --requests=10000 --versions=10

A process without Keras serves a ResNet-20 (tests/serving/harness.py, which is this project's own; where
`tensorflow_model_server` is on the PATH, --server=tensorflow_model_server runs that). Another process publishes new
versions with other weights. Each client process sends its requests over one connection.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np

NAME = "resnet20"
IMAGES = 20
TOLERANCE = 1e-5


def soak(clients: int, requests: int, versions: int, server: str = "harness", model: str = "resnet20") -> dict:
    """Run server, publisher and clients; return their counts."""
    import psutil

    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        publisher = _python("publish", root, versions, requests, model)
        _wait(lambda: (root / NAME / "1").is_dir(), publisher)
        port, serving = _serve(server, root / NAME)
        try:
            _wait(lambda: _ready(port), serving)
            running = [_python("client", root, port, requests, versions, number) for number in range(clients)]
            total, memory, start = clients * requests, [], time.monotonic()
            while any(process.poll() is None for process in running):
                done = sum(_progress(root, number) for number in range(clients))
                memory.append((done / total, psutil.Process(serving.pid).memory_info().rss))
                time.sleep(0.5)
            seconds = time.monotonic() - start
            results = [json.loads((root / f"client{number}.json").read_text()) for number in range(clients)]
            keras = _get(port, "/metrics")["keras"] if server == "harness" else []
        finally:
            publisher.kill()
            serving.kill()
        published = len([path for path in (root / NAME).iterdir() if path.name.isdigit()])
    # A fifth of the requests is the warm-up, as that of 2,000 in 10,000.
    early = [resident for share, resident in memory if 0.2 <= share < 0.4] or [memory[0][1]]
    late = [resident for share, resident in memory if share >= 0.8] or [memory[-1][1]]
    return {
        "answers": sum(result["answers"] for result in results),
        "failed": sum(result["failed"] for result in results),
        "wrong": sum(result["wrong"] for result in results),
        "went back to an older version": sum(result["backwards"] for result in results),
        "versions published": published,
        "versions that answered": len({version for result in results for version in result["versions"]}),
        "modules of Keras or TensorFlow in the server": len(keras),
        "seconds": round(seconds, 1),
        "resident MB after warm-up, at the end": [round(float(np.median(part)) / 1e6, 1) for part in (early, late)],
        "memory growth %": round(100 * float(np.median(late) / np.median(early) - 1), 2),
    }


def _python(*arguments) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "tests.serving.soak_requests", *map(str, arguments)])


def _serve(server: str, base: pathlib.Path) -> tuple[int, subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if server == "harness":
        command = [sys.executable, "-m", "tests.serving.harness", f"--base={base}", f"--rest_port={port}"]
    else:
        command = [shutil.which(server), f"--rest_api_port={port}", f"--model_name={NAME}", f"--model_base_path={base}"]
        command += ["--port=0", "--file_system_poll_wait_seconds=1"]
    # Without it, glibc's allocator keeps memory of the many threads of a dropped version: 1.5 % a version.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
    return port, subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)


def _wait(condition, process: subprocess.Popen) -> None:
    while not condition():
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        time.sleep(0.05)


def _get(port: int, path: str) -> dict:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    return json.loads(connection.getresponse().read())


def _ready(port: int) -> bool:
    try:
        return "model_version_status" in _get(port, f"/v1/models/{NAME}")
    except OSError:
        return False


def _progress(root: pathlib.Path, number: int) -> int:
    path = root / f"progress{number}"
    return path.stat().st_size if path.exists() else 0


def publish(folder: str, versions: str, requests: str, model: str) -> None:
    """Publish versions, evenly over the time of the clients; the expected answers of each are written before it."""
    import keras_resnet
    from keras_resnet.serving import saved_model
    from tests.serving.sources import Source, encoded, settle, smooth

    root, generator = pathlib.Path(folder), np.random.default_rng(0)
    images = np.stack([smooth(generator, 32, 32) for _ in range(IMAGES)])
    (root / "files.json").write_text(json.dumps([base64.b64encode(encoded(image)).decode() for image in images]))
    if model == "tiny":
        options = {"block": "basic", "stem": "cifar", "input_shape": (32, 32, 3), "classes": 10}
        net = keras_resnet.ResNet([(8, 1, 2)], **options)
    else:
        net = keras_resnet.ResNet20(classes=10)
    for version in range(1, int(versions) + 1):
        source = Source(settle(net, version))
        np.save(root / f"expected{version}.npy", net.predict_on_batch(source.photo_transform().batch(images)))
        due = (version - 1) / int(versions) * int(requests)
        while version > 1 and _progress(root, 0) < due:
            time.sleep(0.05)
        saved_model.export(source, root / NAME)
    while True:
        time.sleep(60)


def client(folder: str, port: str, requests: str, versions: str, number: str) -> None:
    """Send at least `requests` requests, until the last version answers, and compare each answer."""
    root, draw = pathlib.Path(folder), random.Random(int(number))
    files = json.loads((root / "files.json").read_text())
    expected, result = {}, {"answers": 0, "failed": 0, "wrong": 0, "backwards": 0, "versions": []}
    connection, last = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60), 0
    with open(root / f"progress{number}", "ab", buffering=0) as progress:
        count, newest, patience = 0, root / NAME / versions, 5000
        while count < int(requests) or (last < int(versions) and patience):
            # After the last version was published, the server has that many requests to load it.
            patience -= newest.is_dir() and count >= int(requests)
            chosen = draw.sample(range(IMAGES), 1 if count % 10 else 3)
            body = json.dumps({"instances": [{"b64": files[at]} for at in chosen]})
            connection.request("POST", f"/v1/models/{NAME}:predict", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = json.loads(response.read())
            progress.write(b".")
            count += 1
            if response.status != 200:
                result["failed"] += 1
                print(f"client {number}: {content}", file=sys.stderr)
                continue
            result["answers"] += 1
            for path in root.glob("expected*.npy") if count % 50 == 0 else ():
                expected.setdefault(int(path.stem.removeprefix("expected")), np.load(path))
            answer = np.array([row["probabilities"] for row in content["predictions"]])
            version = int(response.headers["X-Version"] or 0)
            if version and version not in expected:
                expected[version] = np.load(root / f"expected{version}.npy")
            candidates = [version] if version else sorted(expected)
            equal = [number for number in candidates if np.abs(expected[number][chosen] - answer).max() <= TOLERANCE]
            if not equal:
                result["wrong"] += 1
                continue
            result["backwards"] += equal[-1] < last
            last = max(last, equal[-1])
            if equal[-1] not in result["versions"]:
                result["versions"].append(equal[-1])
    (root / f"client{number}.json").write_text(json.dumps(result))


def main() -> int:
    if sys.argv[1:2] in (["publish"], ["client"]):
        {"publish": publish, "client": client}[sys.argv[1]](*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=10_000, help="Of each client.")
    parser.add_argument("--versions", type=int, default=10)
    parser.add_argument("--server", default="harness", choices=["harness", "tensorflow_model_server"])
    arguments = parser.parse_args()
    result = soak(arguments.clients, arguments.requests, arguments.versions, arguments.server)
    for name, value in result.items():
        print(f"{name}: {value}")
    return 1 if result["failed"] or result["wrong"] or result["went back to an older version"] else 0


if __name__ == "__main__":
    sys.exit(main())
