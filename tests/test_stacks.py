"""The two stacks give the same: each checks what the other wrote, the other in a process of its environment."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.conftest import KERAS_2, NOT_ON_KERAS_2, ON_KERAS_2

OTHER = os.environ.get("KERAS_RESNET_OTHER_PYTHON")
TOLERANCES = {
    "logits": 1e-4,
    "steps of adamw": 1e-4,
    "steps of": 1e-5,
    "SavedModel": 1e-5,
    "run": 1e-5,
    "detector": 0.0,
}
"""Largest difference allowed, by the first words of what is compared, the first that fit.

AdamW divides gradients near zero, which are rounding, by their own size.
"""


@pytest.mark.skipif(not OTHER, reason="needs the Python of the other stack in KERAS_RESNET_OTHER_PYTHON")
def test_each_stack_continues_the_other(tmp_path):
    from tests import stacks

    here, there = tmp_path / "here", tmp_path / "there"
    stacks.write(here)
    environment = {**os.environ, "PYTHONPATH": ".", "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [OTHER, "-m", "tests.stacks", here, there]
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr[-3000:]
    for found in (json.loads(process.stdout.splitlines()[-1]), stacks.check(there)):
        for name, difference in found.items():
            tolerance = next(limit for start, limit in TOLERANCES.items() if name.startswith(start))
            assert difference <= tolerance, (name, difference)
        assert {name.split()[0] for name in found} == {"logits", "steps", "SavedModel", "run", "detector"}


def test_what_runs_and_is_left_out_on_keras_2_exists():
    for name in ON_KERAS_2 | NOT_ON_KERAS_2:
        path, _, function = name.partition("::")
        place = pathlib.Path(__file__).parent / path
        assert place.exists(), name
        assert not function or f"def {function.split('[')[0]}(" in place.read_text(encoding="utf-8"), name


@pytest.mark.skipif(not KERAS_2, reason="about Keras 2")
def test_other_backends_are_refused():
    command = [sys.executable, "-c", "import keras_resnet; keras_resnet.ResNet20"]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert "InputError: KERAS_BACKEND must be 'tensorflow' with Keras 2.15.0; got 'jax'." in process.stderr
