"""Profile a training step or a prediction by kind of operation, with TensorFlow's profiler.

    python benchmarks/profile_step.py --model=ResNet50 --batch_size=16 --size=224
    python benchmarks/profile_step.py --model=ResNet20 --batch_size=128 --size=32 --dtype=mixed_bfloat16 --layers=20
    python benchmarks/profile_step.py --step=inference --batch_size=32 --dtype=mixed_bfloat16

Prints the wall and processor time of a step without the profiler, and the time of the operations of the profiled steps
by kind, in milliseconds and as shares of their sum. Operations run in parallel and on several cores, so read the
shares, not the sums; on a busy machine, profile more steps.
"""

import collections
import pathlib
import statistics
import sys
import tempfile
import time

from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from benchmarks import contenders, machine
from keras_resnet.cli import main as cli

FLAGS = flags.FLAGS
flags.DEFINE_enum(
    "step", "training", ["training", "inference", "exported"], "What to profile; exported has batch norm folded."
)
flags.DEFINE_string("model", "ResNet50", "Constructor of the network.")
flags.DEFINE_enum("library", "keras_resnet", ["keras_resnet", "keras.applications", "keras batch norm"], "Library.")
flags.DEFINE_integer("batch_size", 16, "Images in a batch.", lower_bound=1)
flags.DEFINE_integer("size", 224, "Side of the images in pixels.", lower_bound=8)
flags.DEFINE_string("dtype", "float32", "Dtype policy.")
flags.DEFINE_integer("steps", 3, "Profiled steps.", lower_bound=1)
flags.DEFINE_integer("kinds", 20, "Rows of the table.", lower_bound=1)
flags.DEFINE_integer("layers", 0, "Number of the longest single operations to list.", lower_bound=0)


def profile(turn, steps: int) -> collections.Counter:
    """Run `steps` turns under the profiler.

    Returns:
        (name, kind of operation) -> (seconds, count).
    """
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2, python_tracer_level=0)
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder, options):
            for _ in range(steps):
                turn()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    seconds, counts = collections.Counter(), collections.Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                # Operations are named "{place in the graph}:{kind}"; events of the runtime are not, or contain "::".
                name, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
                if name and kind.isidentifier() and not name.endswith(":") and " " not in name:
                    seconds[name, kind] += event.duration_ps * 1e-12
                    counts[name, kind] += 1
    return {key: (seconds[key], counts[key]) for key in seconds}


def main(_):
    options = {name: FLAGS[name].value for name in ("library", "model", "batch_size", "size", "dtype")}
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
    operations = profile(turn, FLAGS.steps)
    whole = sum(seconds for seconds, _ in operations.values())

    print(", ".join(f"{name} {value}" for name, value in {**options, **machine.describe()}.items()))
    medians = [round(1e3 * statistics.median(times)) for times in (taken, used)]
    print(f"a step of {FLAGS.step}: {medians[0]} ms, processor time {medians[1]} ms (medians of {FLAGS.steps})\n")
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
    cli.quiet()
    app.run(main)
