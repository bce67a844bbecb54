"""Several workers on one machine: one command in several processes that know of each other by `TF_CONFIG`."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

GRACE_SECONDS = 10.0
"""What the others have to end by themselves once one has failed, and again after SIGTERM, before SIGKILL."""

STOPPED = tuple(128 + number for number in (signal.SIGINT, signal.SIGTERM))
"""Exit codes of workers that a signal stopped: the others are saving the same step and may take their time."""


def run(command: Sequence[str], count: int, grace: float = GRACE_SECONDS) -> int:
    """Run a command as `count` workers, print what they say behind their numbers, and stop all when one fails.

    SIGTERM and SIGINT are handed on to all of them. If this process is killed, they get SIGTERM.

    Args:
        command: program and arguments, the same for each worker.
        count: how many workers.
        grace: seconds as for `GRACE_SECONDS`.

    Returns:
        0, or the exit code of the worker that failed first; 128 and the signal's number where a signal ended it.
    """
    addresses = [f"localhost:{port}" for port in free_ports(count)]
    processes = [_start(command, addresses, number) for number in range(count)]
    readers = [threading.Thread(target=_relay, args=item, daemon=True) for item in enumerate(processes)]
    for reader in readers:
        reader.start()
    with _handed_on(processes):
        code = _wait(processes, grace)
    for reader in readers:
        reader.join()
    return code


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]


def _start(command: Sequence[str], addresses: list[str], number: int) -> subprocess.Popen:
    values = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
    return subprocess.Popen(
        command,
        env={**os.environ, "TF_CONFIG": json.dumps(values), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that Ctrl-C comes to them once, from here
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )


def _end_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent ends."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def _relay(number: int, process: subprocess.Popen) -> None:
    for line in process.stdout:
        sys.stdout.buffer.write(b"[worker %d] %s" % (number, line))
        sys.stdout.flush()


@contextlib.contextmanager
def _handed_on(processes: Sequence[subprocess.Popen]):
    """Hand SIGTERM and SIGINT on for as long as the context lasts."""

    def send(number, frame):
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, send) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(processes: Sequence[subprocess.Popen], grace: float) -> int:
    """Wait until all have ended; after the first failure not for longer than the grace allows."""
    failed, since, sent = None, 0.0, set()
    while True:
        codes = [process.poll() for process in processes]
        if failed is None:
            failed = next((number for number, code in enumerate(codes) if code and code not in STOPPED), None)
            since = time.monotonic()
        running = [process for process, code in zip(processes, codes, strict=True) if code is None]
        if not running:
            break
        for number, after in ((signal.SIGTERM, grace), (signal.SIGKILL, 2 * grace)):
            if failed is not None and time.monotonic() - since > after and number not in sent:
                print(f"worker {failed} ended with {_named(codes[failed])}: {number.name} to the others", flush=True)
                for process in running:
                    process.send_signal(number)
                sent.add(number)
        time.sleep(0.05)
    code = codes[failed] if failed is not None else max(codes)
    return code if code >= 0 else 128 - code


def _named(code: int) -> str:
    return f"exit code {code}" if code > 0 else signal.Signals(-code).name
