"""What all tests on Keras with JAX and PyTorch share."""

import importlib.util
import os
import pathlib

# Two devices of the CPU, which must be asked for before JAX is imported.
# Compiling takes most of the time of these tests, and less without LLVM's optimization.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0")

import pytest
from absl import flags

EXAMPLES = pathlib.Path(__file__).parent.parent.parent / "examples"


@pytest.fixture(scope="module")
def example(request):
    """The example that `EXAMPLE` of the test module names; its flags, which other examples define too, end with it."""
    before = set(flags.FLAGS)
    name = request.module.EXAMPLE
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for flag in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, flag)
