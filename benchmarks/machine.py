"""Describe the machine and the versions of a measurement."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import shutil
import subprocess

PACKAGES = (
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "jax",
    "torch",
    "torchvision",
    "timm",
    "openvino",
    "ai-edge-litert",
    "numpy",
)


def describe() -> dict[str, str]:
    """Return the date, processor, cores, load and installed versions by name, and the GPUs if there are any."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    gpus = ""
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        asked = subprocess.run(query, capture_output=True, text=True)
        gpus = asked.stdout.strip().replace("\n", "; ") if asked.returncode == 0 else ""
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    wide = [
        name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8") if name in about.get("flags", "")
    ]
    return {
        "date": datetime.date.today().isoformat(),
        "processor": f"{about.get('model name', platform.processor())} ({', '.join(wide)})",
        **({"GPU": gpus} if gpus else {}),
        "cores": str(len(os.sched_getaffinity(0))),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "versions": ", ".join([f"Python {platform.python_version()}", *(f"{k} {v}" for k, v in versions.items())]),
    }
