"""Which dtype policy is fast on this machine."""

from __future__ import annotations

import pathlib
import platform

import tensorflow as tf

CPU_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")
"""Flags of processors, as Linux names them, that compute in bfloat16."""

CAPABILITY = (8, 0)
"""Compute capability from which GPUs compute in bfloat16."""


def has_gpu() -> bool:
    """Return whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def fastest(cpu_info: pathlib.Path = pathlib.Path("/proc/cpuinfo")) -> tuple[str, str]:
    """Return the dtype policy for this machine, "mixed_bfloat16" or "float32", and the reason in words.

    Args:
        cpu_info: the file in which Linux describes the processor.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        version = ".".join(map(str, capability))
        if tuple(capability) >= CAPABILITY:
            return "mixed_bfloat16", f"the GPU computes in it (compute capability {version})"
        return "float32", f"the GPU does not compute in bfloat16 (compute capability {version})"
    flags: set[str] = set()
    if cpu_info.is_file():
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
        flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    found = next((flag for flag in CPU_FLAGS if flag in flags), None)
    if found:
        return "mixed_bfloat16", f"the processor computes in it ({found})"
    return "float32", f"the processor ({platform.machine() or 'unknown'}) does not compute in bfloat16"
