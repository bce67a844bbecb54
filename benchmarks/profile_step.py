"""Profile a training step or a prediction by kind of operation, with the profiler of TensorFlow, JAX or PyTorch.

    python benchmarks/profile_step.py --model=ResNet50 --batch_size=16 --size=224
    python benchmarks/profile_step.py --model=ResNet20 --batch_size=128 --size=32 --dtype=mixed_bfloat16 --layers=20
    python benchmarks/profile_step.py --step=inference --batch_size=32 --dtype=mixed_bfloat16
    python benchmarks/profile_step.py --backend=jax --device=gpu --batch_size=256 --dtype=mixed_bfloat16 --layers=30
    python benchmarks/profile_step.py --library="timm compiled" --device=gpu --batch_size=256 --dtype=mixed_bfloat16

Prints the wall and processor time of a step without the profiler, and the time of the operations of the profiled steps
by kind, in milliseconds and as shares of their sum. Operations run in parallel and on several cores, so read the
shares, not the sums; on a busy machine, profile more steps. On a GPU the times are those of its kernels, and their sum
is what a step takes without gaps. JAX's kernels have the kinds of the operations of XLA's program that they compute,
and other libraries' kernels those of their names.
"""

import collections
import os
import pathlib
import statistics
import sys
import time

from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from benchmarks import contenders, machine, profiles
from keras_resnet.cli.notices import quiet

LIBRARIES = ("keras_resnet", "keras.applications", "keras batch norm")

OTHERS = ("torch", "torch.compile", "timm", "timm compiled", "torchvision", "torchvision compiled")

FLAGS = flags.FLAGS
flags.DEFINE_enum(
    "step", "training", ["training", "inference", "exported"], "What to profile; exported has batch norm folded."
)
flags.DEFINE_string("model", "ResNet50", "Constructor of the network.")
flags.DEFINE_enum("library", "keras_resnet", [*LIBRARIES, *OTHERS], "Library.")
flags.DEFINE_enum("backend", None, ["tensorflow", "jax", "torch"], "Backend of Keras. [that of KERAS_BACKEND]")
flags.DEFINE_enum("device", "cpu", ["cpu", "gpu"], "Device.")
flags.DEFINE_integer("batch_size", 16, "Images in a batch.", lower_bound=1)
flags.DEFINE_integer("size", 224, "Side of the images in pixels.", lower_bound=8)
flags.DEFINE_string("dtype", "float32", "Dtype policy.")
flags.DEFINE_integer("steps", 3, "Profiled steps.", lower_bound=1)
flags.DEFINE_integer("kinds", 20, "Rows of the table.", lower_bound=1)
flags.DEFINE_integer("layers", 0, "Number of the longest single operations to list.", lower_bound=0)


def main(_):
    if FLAGS.backend:
        os.environ["KERAS_BACKEND"] = FLAGS.backend
    if FLAGS.device == "gpu":
        os.environ["JAX_PLATFORMS"] = "cuda,cpu"
        # The kernels of a CUDA graph have no names of operations.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_enable_command_buffer=".strip()
    options = {name: FLAGS[name].value for name in ("library", "model", "batch_size", "size", "dtype")}
    if FLAGS.library in OTHERS:
        if FLAGS.step == "exported":
            raise app.UsageError(f"step must be training or inference for {FLAGS.library}; got exported.")
        source = FLAGS.library.split()[0]
        chosen = {name: value for name, value in options.items() if name != "library"}
        chosen["source"] = source if source in ("timm", "torchvision") else "own"
        chosen |= {"compile": "compile" in FLAGS.library, "device": "cuda" if FLAGS.device == "gpu" else "cpu"}
        profiler, turn = "torch", getattr(contenders, f"torch_{FLAGS.step}")(**chosen)
    else:
        import keras

        profiler = keras.backend.backend()
        if FLAGS.step == "training":
            turn = contenders.keras_training(**options)
        else:
            turn = contenders.keras_inference(**options, fold=FLAGS.step == "exported")
    for _ in range(2):
        turn()
    used, taken = [], []
    for _ in range(FLAGS.steps):
        start = time.process_time(), time.perf_counter()
        turn()
        used.append(time.process_time() - start[0])
        taken.append(time.perf_counter() - start[1])
    operations = profiles.profile(turn, FLAGS.steps, profiler)
    whole = sum(seconds for seconds, _ in operations.values())

    print(", ".join(f"{name} {value}" for name, value in {**options, **machine.describe()}.items()))
    medians = [f"{1e3 * statistics.median(times):.{1 if FLAGS.device == 'gpu' else 0}f}" for times in (taken, used)]
    print(f"a step of {FLAGS.step}: {medians[0]} ms, processor time {medians[1]} ms (medians of {FLAGS.steps})")
    print(f"all operations: {1e3 * whole / FLAGS.steps:.1f} ms a step")
    if hasattr(turn, "step"):
        cost, memory = turn.step.cost_analysis(), turn.step.memory_analysis()
        sizes = [size / 2**20 for size in (memory.argument_size_in_bytes, memory.temp_size_in_bytes)]
        print(
            f"XLA's program: {cost['flops'] / 1e9:.1f} GFLOP, {cost['bytes accessed'] / 1e9:.2f} GB read and written; "
            f"{sizes[0]:.0f} MiB of arguments and {sizes[1]:.0f} MiB of intermediate results"
        )
    print()
    kinds = collections.defaultdict(lambda: [0.0, 0])
    for (_, kind), (seconds, count) in operations.items():
        kinds[kind][0] += seconds
        kinds[kind][1] += count
    print("| operation | count | ms | share |\n|---|---:|---:|---:|")
    for kind, (seconds, count) in sorted(kinds.items(), key=lambda item: -item[1][0])[: FLAGS.kinds]:
        print(
            f"| {kind} | {count // FLAGS.steps} | {1e3 * seconds / FLAGS.steps:.1f} | {100 * seconds / whole:.1f} % |"
        )
    if FLAGS.layers:
        print("\n| place | operation | share |\n|---|---|---:|")
    for (name, kind), (seconds, _) in sorted(operations.items(), key=lambda item: -item[1][0])[: FLAGS.layers]:
        print(f"| {name} | {kind} | {100 * seconds / whole:.1f} % |")


if __name__ == "__main__":
    quiet()
    app.run(main)
