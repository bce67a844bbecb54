"""The launcher with commands of a few lines: what workers are told and say, and how all of them end."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from keras_resnet.distribute import launch

TELL = "import os; print(os.environ['TF_CONFIG'])"
ONE_FAILS = """
import json, os, sys, time
if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1:
    {end}
time.sleep(100)
"""
LAUNCH = """
import sys
from keras_resnet.distribute import launch
sys.exit(launch.run([sys.executable, "-c", sys.argv[1]], 2, 0.5))
"""


def test_each_worker_knows_all_and_its_number(capfd):
    assert launch.run([sys.executable, "-c", TELL], 3) == 0
    lines = sorted(capfd.readouterr().out.splitlines())
    told = [json.loads(line.removeprefix(f"[worker {number}] ")) for number, line in enumerate(lines)]
    assert [one["task"] for one in told] == [{"type": "worker", "index": number} for number in range(3)]
    assert told[0]["cluster"] == told[1]["cluster"] == told[2]["cluster"]
    assert len(set(told[0]["cluster"]["worker"])) == 3


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [("sys.exit(3)", 3, "exit code 3"), ("os.kill(os.getpid(), 9)", 137, "SIGKILL")],
    ids=["exit", "kill -9"],
)
def test_one_that_fails_stops_all(end, code, said, capfd):
    start = time.monotonic()
    assert launch.run([sys.executable, "-c", ONE_FAILS.format(end=end)], 2, grace=0.5) == code
    assert time.monotonic() - start < 20
    assert f"worker 1 ended with {said}: sending SIGTERM to the others" in capfd.readouterr().out


def test_one_that_does_not_listen_is_killed(capfd):
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + ONE_FAILS.format(
        end="time.sleep(1); sys.exit(3)"
    )
    assert launch.run([sys.executable, "-c", deaf], 2, grace=0.5) == 3
    assert "sending SIGKILL to the others" in capfd.readouterr().out


def test_those_that_save_a_step_have_time(capfd):
    slow = "import json, os, sys, time\n"
    slow += "time.sleep(json.loads(os.environ['TF_CONFIG'])['task']['index'] * 2)\nsys.exit(143)"
    assert launch.run([sys.executable, "-c", slow], 2, grace=0.3) == 143
    assert "to the others" not in capfd.readouterr().out


OF_THREE = """
import json, os, signal, sys, time
config = json.loads(os.environ["TF_CONFIG"])
index, count = config["task"]["index"], len(config["cluster"]["worker"])
if count < 3:
    print("count", count)
elif index == 1:
    {end}
else:
    time.sleep({pause})
    sys.exit(75)
"""


@pytest.mark.parametrize(
    ("end", "fewer", "code", "lines"),
    [
        ("os.kill(os.getpid(), 9)", lambda left: left, 0, 2),
        ("os.kill(os.getpid(), 9)", lambda left: left - 1, 0, 1),
        ("os.kill(os.getpid(), 9)", lambda left: 0, 137, 0),
        ("os.kill(os.getpid(), 9)", None, 137, 0),
        ("os.kill(os.getpid(), signal.SIGSTOP)", lambda left: left, 0, 2),  # hangs
        ("sys.exit(3)", lambda left: left, 3, 0),
        ("sys.exit(75)", lambda left: left, 75, 0),
    ],
    ids=["killed", "killed, and one must go", "killed, and nothing to resume", "not elastic", "hangs", "error", "all"],
)
@pytest.mark.parametrize("pause", [0, 0.5], ids=["after the others", "before the others"])
def test_those_left_start_again(end, pause, fewer, code, lines, capfd):
    command = OF_THREE.format(end=end if pause else f"time.sleep(0.5); {end}", pause=pause)
    assert launch.run([sys.executable, "-c", command], 3, grace=3, fewer=fewer) == code
    printed = capfd.readouterr().out
    assert sorted(line for line in printed.splitlines() if "count" in line) == [
        f"[worker {number}] count {lines}" for number in range(lines)
    ]
    noun = "worker" if lines == 1 else "workers"
    assert (f"lost worker 1 of 3: restarting with {lines} {noun}" in printed) == bool(lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_handed_on(number):
    # Where the tests run in the background of a shell, Python finds SIGINT ignored and leaves it so.
    command = "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command += "print('up', flush=True); time.sleep(100)"
    process = subprocess.Popen([sys.executable, "-c", LAUNCH, command], stdout=subprocess.PIPE, text=True)
    seen = [process.stdout.readline() for _ in range(2)]
    assert sorted(seen) == ["[worker 0] up\n", "[worker 1] up\n"]
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode in (128 + number, 1)  # Python itself ends with 1 at a KeyboardInterrupt


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_workers_of_a_killed_launcher_end():
    command = "import os, time; print(os.getpid(), flush=True); time.sleep(100)"
    process = subprocess.Popen([sys.executable, "-c", LAUNCH, command], stdout=subprocess.PIPE, text=True)
    workers = [int(process.stdout.readline().split()[-1]) for _ in range(2)]
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}") and "Z" not in _state(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _state(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "Z"
