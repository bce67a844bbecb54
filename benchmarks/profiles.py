"""Profile calls by kind of operation, with the profilers of TensorFlow, JAX and PyTorch."""

from __future__ import annotations

import collections
import math
import pathlib
import re
import tempfile
from collections.abc import Iterable

Profile = dict[tuple[str, str], tuple[float, int]]
"""(name, kind of operation) -> (seconds, count)."""

CONVOLUTION, BY_INPUT, BY_KERNEL = (
    "convolution",
    "gradient of a convolution by input",
    "gradient of a convolution by kernel",
)

TARGETS = {
    "convForward": CONVOLUTION,
    "convBiasActivationForward": CONVOLUTION,
    "convBackwardInput": BY_INPUT,
    "convBackwardFilter": BY_KERNEL,
    "cublas": "matrix product",
}
"""Part of the name of a library's function in XLA's program -> kind."""

KERNELS = {
    "^triton_(red|per)": "reduction, with what is fused with it",
    "^triton": "elementwise",
    "wgrad|(bwd|backward)_?(filter|weight)": BY_KERNEL,
    "dgrad|(bwd|backward)_?data": BY_INPUT,
    "fprop|conv(?!ert)": CONVOLUTION,
    "gemm|nvjet|cutlass": "matrix product, also of 1x1 convolutions",
    "batch_?norm|bn_[fb]w": "batch norm",
    "multi_tensor|sgd": "optimizer",
    "pool": "pooling",
    "copy|memcpy|memset|transpose|nchw|nhwc": "copy",
    "elementwise": "elementwise",
    "reduce": "reduction, with what is fused with it",
}
"""Expression -> kind of the kernels of GPUs; the first that a name contains. Triton's are named after all they fuse."""


def profile(turn, steps: int, library: str) -> Profile:
    """Run `steps` turns under the profiler of "tensorflow", "jax" or "torch"."""
    return {"tensorflow": with_tensorflow, "jax": with_jax, "torch": with_torch}[library](turn, steps)


def summed(events: Iterable[tuple[str, str, float]]) -> Profile:
    """Return the sums of (name, kind, seconds)."""
    seconds, counts = collections.Counter(), collections.Counter()
    for name, kind, taken in events:
        seconds[name, kind] += taken
        counts[name, kind] += 1
    return {key: (seconds[key], counts[key]) for key in seconds}


def with_jax(turn, steps: int) -> Profile:
    """Profile a turn whose attribute `step` is a compiled step on JAX."""
    import jax

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level, options.host_tracer_level = 0, 2
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            for _ in range(steps):
                turn()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
        # Other lines of a GPU repeat the kernels of its streams.
        on_gpu = [
            event
            for plane in planes
            if plane.name.startswith("/device:GPU")
            for line in plane.lines
            if line.name.startswith("Stream")
            for event in line.events
        ]
        everything = on_gpu or [event for plane in planes for line in plane.lines for event in line.events]
        events = [(event.name, dict(event.stats), event.duration_ns * 1e-9) for event in everything]
    known, found = operations(turn.step.as_text()), []
    for name, values, seconds in events:
        # A name may be that of an operation within another one.
        operation = str(values.get("hlo_op", "")).split("::")[-1]
        if operation in known:
            found.append((*known[operation], seconds))
        elif on_gpu:
            found.append((name, kind_of_kernel(name), seconds))
    return summed(found)


def operations(text: str) -> dict[str, tuple[str, str]]:
    """Return name -> (place in the network, kind) of the operations of XLA's program."""
    insides, lines, inside = {}, [], ""
    for line in text.splitlines():
        if header := re.match(r"(?:ENTRY )?%([\w.\-]+) \(.*\{$", line):
            inside = header[1]
            insides[inside] = []
        elif instruction := re.match(r"\s+(?:ROOT )?%([\w.\-]+) = .*? ([a-z][\w\-]*)\(", line):
            insides[inside].append((instruction[2], line))
            lines.append((instruction[1], instruction[2], line))
    known = {}
    for name, opcode, line in lines:
        called = re.search(r"(?:calls|to_apply)=%([\w.\-]+)", line)
        parts = insides[called[1]] if called and opcode in ("fusion", "call") else [(opcode, line)]
        # A fusion is named after its result; some have no name, but their parts do.
        texts = [line, *(text for _, text in reversed(parts))]
        places = (re.search(r'op_name="([^"]*)"', text) for text in texts)
        place = next((found[1] for found in places if found), name)
        known[name] = (place, kind_of_operation(parts, place, training="jvp(" in text))
    return known


def kind_of_operation(parts: list[tuple[str, str]], place: str, training: bool) -> str:
    """Return the kind of an operation of XLA.

    Args:
        parts: opcode and text of what is fused into it.
        place: the name that JAX gave it, with the layer and the transformations.
        training: whether the program has gradients, so that kinds end with the phase of a step.
    """
    lines = {opcode: line for opcode, line in parts}
    if "custom-call" in lines:
        target = re.search(r'custom_call_target="([^"]*)"', lines["custom-call"])
        target = target[1] if target else "custom-call"
        return next((kind for part, kind in TARGETS.items() if part in target), target)
    if "convolution" in lines:
        if "transpose(" not in place:
            return CONVOLUTION
        # The gradient of a kernel is a small map, whose window is as large as a gradient of the outputs.
        line = lines["convolution"]
        shape, labels = re.search(r"\[([\d,]+)\].* dim_labels=\w+->(\w+)", line).groups()
        sides = [int(side) for side, label in zip(shape.split(","), labels, strict=True) if label.isdigit()]
        window = re.search(r" window={size=([\dx]+)", line)
        area = math.prod(map(int, window[1].split("x"))) if window else 1
        return BY_KERNEL if math.prod(sides) < area else BY_INPUT
    if "dot" in lines:
        return "matrix product"
    phase = "backward" if "transpose(" in place else "forward" if "jvp(" in place else "update and metrics"
    phase = f" ({phase})" if training else ""
    if {"reduce-window", "select-and-scatter", "scatter"} & set(lines):
        return "pooling"
    if "reduce" in lines:
        return f"reduction, with what is fused with it{phase}"
    if set(lines) <= {"copy", "transpose", "bitcast", "parameter", "convert", "pad", "slice", "reshape"}:
        return f"copy or conversion{phase}"
    return f"elementwise{phase}"


def kind_of_kernel(name: str) -> str:
    """Return the kind of a kernel of a GPU."""
    return next((kind for part, kind in KERNELS.items() if re.search(part, name, re.IGNORECASE)), name[:60])


def with_torch(turn, steps: int) -> Profile:
    """Profile a turn of PyTorch."""
    import torch
    from torch import profiler

    with profiler.profile() as run:
        for _ in range(steps):
            turn()
    events = [event for event in run.events() if not getattr(event, "is_user_annotation", False)]
    kernels = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    if kernels:
        return summed(
            (event.name, kind_of_kernel(event.name), event.self_device_time_total * 1e-6) for event in kernels
        )
    return summed((event.name, event.name, event.self_cpu_time_total * 1e-6) for event in events)


def with_tensorflow(turn, steps: int) -> Profile:
    """Profile a turn of TensorFlow."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2, python_tracer_level=0)
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder, options):
            for _ in range(steps):
                turn()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    found = []
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                # Operations are named "{place in the graph}:{kind}"; events of the runtime are not, or contain "::".
                name, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
                if name and kind.isidentifier() and not name.endswith(":") and " " not in name:
                    found.append((name, kind, event.duration_ps * 1e-12))
    return summed(found)
