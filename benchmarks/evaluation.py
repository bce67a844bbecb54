"""Measure the time and memory of the paper's protocols with ResNet-50 on the same photos.

    python benchmarks/evaluation.py --photos=/data/photos         # 100 photos, five alternating rounds
    python benchmarks/evaluation.py --images=4 --runs=1 --scales=64 --size=64     # a smoke run on random images

Single crop and ten crops alternate, so that other work on the machine affects both; the ratio is of the medians. The
weights are random, which takes the same time as trained weights.
"""

import itertools
import pathlib
import resource
import statistics
import tempfile
import time

from absl import app, flags

from keras_resnet.cli import main as cli

FLAGS = flags.FLAGS
flags.DEFINE_string("photos", None, "Folder of photos, with or without subfolders; by default random ones of 500x375.")
flags.DEFINE_integer("images", 100, "Number of photos.", lower_bound=1)
flags.DEFINE_integer("runs", 5, "Alternating rounds.", lower_bound=1)
flags.DEFINE_integer("size", 224, "Side of the network's input.", lower_bound=32)
flags.DEFINE_integer("batch_size", 50, "Images per batch.", lower_bound=1)
flags.DEFINE_list("scales", ["224", "256", "384", "480", "640"], "Shorter sides of multi_scale.")


def photos(folder: str) -> list[str]:
    """Return the files to evaluate; without --photos, write random JPEGs to `folder`."""
    if FLAGS.photos:
        paths = sorted(
            path for path in pathlib.Path(FLAGS.photos).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")
        )
        return [str(path) for path in paths[: FLAGS.images]]
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(FLAGS.images):
        small = Image.fromarray(random.integers(0, 256, (47, 63, 3)).astype("uint8"))
        small.resize((500, 375)).save(pathlib.Path(folder, f"{number}.jpg"))
    return sorted(str(path) for path in pathlib.Path(folder).iterdir())


def main(_):
    import numpy as np

    import keras_resnet
    from keras_resnet.data.dataset import Dataset, DatasetInfo, Files
    from keras_resnet.data.transforms import EvalTransform, default_resize
    from keras_resnet.evaluation import ensemble, replicas
    from keras_resnet.evaluation.dense import fully_convolutional

    with tempfile.TemporaryDirectory() as folder:
        paths = photos(folder)
        files = Files(np.array(paths), np.zeros(len(paths), "int32"))
        names = tuple(map(str, range(1000)))
        dataset = Dataset(DatasetInfo("photos", names, None, {"test": len(paths)}), {"test": files}.__getitem__)
        size = (FLAGS.size, FLAGS.size)
        transform = EvalTransform(size, (124.0, 117.0, 104.0), (1.0,) * 3, default_resize(size))
        model = keras_resnet.ResNet50(input_shape=(FLAGS.size, FLAGS.size, 3), classifier_activation=None)
        functions = {
            dense: replicas.function(fully_convolutional(model) if dense else model) for dense in (False, True)
        }
        member = ensemble.Member("resnet50", transform, functions.__getitem__, names)

        def seconds(protocol):
            start, processor = time.perf_counter(), time.process_time()
            scales = tuple(map(int, FLAGS.scales))
            ensemble.evaluate([member], dataset, protocol=protocol, batch_size=FLAGS.batch_size, scales=scales)
            return time.perf_counter() - start, time.process_time() - processor

        for protocol in ("single", "ten_crop"):
            seconds(protocol)  # trace the graphs
        times = {"single": [], "ten_crop": []}
        for _, protocol in itertools.product(range(FLAGS.runs), times):
            times[protocol].append(seconds(protocol))
        times["multi_scale"] = [seconds("multi_scale")]

    print(f"ResNet-50, {len(paths)} photos, {FLAGS.runs} rounds, batch {FLAGS.batch_size}")
    for place, clock in enumerate(("seconds", "seconds of processor time")):
        of = {protocol: [value[place] for value in values] for protocol, values in times.items()}
        for protocol, values in of.items():
            print(f"{protocol}: {statistics.median(values):.1f} {clock} ({min(values):.1f}-{max(values):.1f})")
        rounds = [ten / single for ten, single in zip(of["ten_crop"], of["single"], strict=True)]
        ratio = statistics.median(of["ten_crop"]) / statistics.median(of["single"])
        print(f"ten_crop over single: {ratio:.2f} by {clock} ({min(rounds):.2f}-{max(rounds):.2f} by round)")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    cli.quiet()
    app.run(main)
