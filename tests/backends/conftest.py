"""Two devices of the CPU for all tests on JAX, which must be asked for before JAX is imported."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
