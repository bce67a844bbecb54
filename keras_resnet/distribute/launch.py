"""Start several workers on one machine: the same command in several processes, which find each other by `TF_CONFIG`."""

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
from collections.abc import Callable, Collection, Iterator, Sequence
from types import FrameType
from typing import NamedTuple

from keras_resnet.errors import PeerLost, counted

GRACE_SECONDS = 10.0
"""Time for the other workers to exit once one has failed, and again after SIGTERM, before SIGKILL."""

STOPPED = tuple(128 + number for number in (signal.SIGINT, signal.SIGTERM))
"""Exit codes of workers that a signal stopped: the others are saving the same step and may take their time."""


class Outcome(NamedTuple):
    """How the workers ended.

    Attributes:
        code: 0, or the exit code of the worker that failed first, 128 plus the signal's number if a signal ended it;
            that of workers that ended because they lost another one only if there is no other.
        lost: the workers that a signal ended or that did not respond, through no error of the command.
    """

    code: int
    lost: Collection[int] = ()


def run(
    command: Sequence[str], count: int, grace: float = GRACE_SECONDS, fewer: Callable[[int], int] | None = None
) -> int:
    """Run a command as `count` workers, print their output with their numbers in front, and stop all if one fails.

    SIGTERM and SIGINT are forwarded to all workers. If this process is killed, they get SIGTERM.

    Args:
        command: program and arguments, the same for each worker.
        count: number of workers.
        grace: seconds, see `GRACE_SECONDS`.
        fewer: function of the number of workers left after others were lost, which returns with how many of them to
            start the command again, 0 for none; by default it is not started again.

    Returns:
        The exit code, see `Outcome`.
    """
    while True:
        code, lost = _run(command, count, grace)
        left = count - len(lost)
        again = fewer(left) if fewer and lost and left else 0
        if not again:
            return code
        names = ", ".join(map(str, sorted(lost)))
        print(
            f"lost worker{'s' * (len(lost) > 1)} {names} of {count}: restarting with {counted(again, 'worker')}",
            flush=True,
        )
        count = again


def _run(command: Sequence[str], count: int, grace: float) -> Outcome:
    """Run the command once."""
    addresses = [f"localhost:{port}" for port in free_ports(count)]
    processes: list[subprocess.Popen[bytes]] = []
    with _forwarded_signals(processes) as received:
        for number in range(count):
            processes.append(_start(command, addresses, number))
            if received:
                processes[-1].send_signal(received[0])
        readers = [threading.Thread(target=_relay, args=item, daemon=True) for item in enumerate(processes)]
        for reader in readers:
            reader.start()
        outcome = _wait(processes, grace)
    for reader in readers:
        reader.join()
    return outcome._replace(lost=()) if received else outcome


def free_ports(count: int) -> list[int]:
    """Return `count` ports on which nothing listens now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]


def _start(command: Sequence[str], addresses: list[str], number: int) -> subprocess.Popen[bytes]:
    """Start a worker that knows the addresses of all and its own number."""
    values = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
    return subprocess.Popen(
        command,
        env={**os.environ, "TF_CONFIG": json.dumps(values), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that Ctrl-C reaches the workers once, through this process
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )


def _end_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent process ends."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def _relay(number: int, process: subprocess.Popen[bytes]) -> None:
    """Print the lines of a worker with its number in front."""
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.buffer.write(b"[worker %d] %s" % (number, line))
        sys.stdout.flush()


@contextlib.contextmanager
def _forwarded_signals(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Forward SIGTERM and SIGINT to the processes while the context lasts; yield the list of signals received."""
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(processes: Sequence[subprocess.Popen[bytes]], grace: float) -> Outcome:
    """Wait until all have exited, after the first failure no longer than `grace` allows."""
    failed: int | None = None
    since = 0.0
    sent: set[signal.Signals] = set()
    killed: set[int] = set()
    unresponsive: set[int] = set()
    while True:
        codes = [process.poll() for process in processes]
        if not sent:
            killed.update(number for number, code in enumerate(codes) if code is not None and code < 0)
        if failed is None:
            failed = next((number for number, code in enumerate(codes) if code and code not in STOPPED), None)
            since = time.monotonic()
        running = [process for process, code in zip(processes, codes, strict=True) if code is None]
        if not running:
            break
        for number, after in ((signal.SIGTERM, grace), (signal.SIGKILL, 2 * grace)):
            if failed is not None and time.monotonic() - since > after and number not in sent:
                reason = _exit_reason(codes[failed])
                print(f"worker {failed} ended with {reason}: sending {number.name} to the others", flush=True)
                for process in running:
                    process.send_signal(number)
                sent.add(number)
                if number == signal.SIGKILL:
                    unresponsive.update(which for which, process in enumerate(processes) if process in running)
        time.sleep(0.05)
    ended = [code for code in codes if code is not None]
    errors = {number for number, code in enumerate(ended) if code > 0 and code not in (PeerLost.code, *STOPPED)}
    causes = [number for number in (failed, *sorted(errors | killed)) if number in errors | killed]
    first = causes[0] if causes else failed
    code = ended[first] if first is not None else max(ended)
    if code > 0 and code != PeerLost.code:
        return Outcome(code)  # an error, which would come again
    return Outcome(code if code >= 0 else 128 - code, killed | unresponsive)


def _exit_reason(code: int | None) -> str:
    """Return "exit code 3" or the name of the signal that ended a process."""
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
