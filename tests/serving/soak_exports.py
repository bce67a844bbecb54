"""Killed exports: every integer folder that becomes visible must be complete.

    python -m tests.serving.soak_exports --exports=100 --kills=50

A worker process exports repeatedly; some of its exports end with SIGKILL at a random moment. A watcher polls the folder
every millisecond, compares each new version with its manifest at once, and loads it with the C API of TensorFlow.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time


class Watcher:
    """Polls a folder every millisecond and checks each new integer folder at once."""

    def __init__(self, base: pathlib.Path):
        from keras_resnet.serving import publish
        from tests.serving.harness import Model

        self.base, self.seen, self.looks, self.stop = base, [], 0, threading.Event()
        self.errors: list[str] = []
        self.verify, self.model = publish.verify, Model
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self) -> None:
        while not self.stop.is_set():
            names = os.listdir(self.base) if self.base.is_dir() else []
            self.looks += 1
            for name in names:
                if name.isdigit() and name not in self.seen:
                    self.seen.append(name)
                    try:
                        self.verify(self.base / name)
                        self.model(self.base / name)
                    except Exception as error:
                        self.errors.append(f"{name}: {error!r}")
            time.sleep(0.001)


def soak(exports: int, kills: int, seed: int = 0) -> dict[str, object]:
    """Run the exports; return the counts of outcomes."""
    draw = random.Random(seed)
    killed = set(draw.sample(range(1, exports), kills))
    done = ended = leftovers = 0
    duration, process = 1.0, None
    with tempfile.TemporaryDirectory() as folder:
        base = pathlib.Path(folder, "models", "tiny")
        watcher = Watcher(base)
        try:
            for number in range(exports):
                if process is None:
                    process = _worker(base)
                start = time.monotonic()
                process.stdin.write("export\n")
                process.stdin.flush()
                if number in killed:
                    time.sleep(draw.uniform(0, duration))
                    process.kill()
                    process.wait()
                    ended, process = ended + 1, None
                    leftovers += any(base.glob(".partial-*"))
                    continue
                answer = process.stdout.readline()
                if not answer.startswith("done"):
                    raise RuntimeError(f"an export failed: {answer}")
                done, duration = done + 1, time.monotonic() - start
        finally:
            if process:
                process.kill()
                process.wait()
            time.sleep(0.1)
            watcher.stop.set()
            watcher.thread.join()
        return {
            "exports that ended": done,
            "exports that were killed": ended,
            "killed ones that left a folder behind": leftovers,
            "such folders at the end": len(list(base.glob(".partial-*"))),
            "versions seen": len(watcher.seen),
            "looks": watcher.looks,
            "violations": watcher.errors,
        }


def _worker(base: pathlib.Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.serving.soak_exports", f"--worker={base}"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    process.stdout.readline()
    return process


def _export_forever(base: str) -> None:
    import keras_resnet
    from keras_resnet.serving import saved_model
    from tests.serving.sources import Source, settle

    net = keras_resnet.ResNet([(8, 1, 1)], block="basic", stem="cifar", input_shape=(8, 8, 3), classes=3)
    source = Source(settle(net))
    print("ready", flush=True)
    for _ in sys.stdin:
        print("done", saved_model.export(source, base), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exports", type=int, default=100)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        _export_forever(arguments.worker)
        return 0
    result = soak(arguments.exports, arguments.kills, arguments.seed)
    for name, value in result.items():
        print(f"{name}: {value}")
    return 1 if result["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
