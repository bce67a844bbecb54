"""Measure the latency and memory of a detector on one image: its SavedModel and, without masks, its TFLite file.

    python benchmarks/detector_latency.py --backbone=resnet50 --size=480,640
    python benchmarks/detector_latency.py --backbone=resnet50 --size=480,640 --masks --detections=10

Each is measured in a separate process, by wall time and by processor time over all cores: on a busy machine, wall time
says little.
"""

import multiprocessing
import pathlib
import tempfile
import time

import numpy as np
from absl import app, flags

from keras_resnet.cli import main as cli

FLAGS = flags.FLAGS
flags.DEFINE_string("backbone", "resnet50", "Network.")
flags.DEFINE_list("size", ["480", "640"], "Height and width of the image in pixels, multiples of 16.")
flags.DEFINE_integer("proposals", 300, "Proposals that are classified.")
flags.DEFINE_integer("classes", 20, "Object classes.")
flags.DEFINE_enum("roi_pooling", "max", ["max", "align"], "RoI pooling.")
flags.DEFINE_bool("masks", False, "Predict masks.")
flags.DEFINE_integer("detections", 100, "Detections, all of which a detector with random weights returns.")
flags.DEFINE_integer("rounds", 5, "Timed calls of each.")


def saved_model(path, image):
    import tensorflow as tf

    serve = tf.saved_model.load(path).signatures["serving_default"]
    return lambda: serve(input_tensor=tf.constant(image))


def tflite(path, image):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(path, num_threads=2).get_signature_runner("serving_default")
    return lambda: runner(images=image.astype("float32"))


def measure(load, path, image, rounds):
    """Return wall and processor seconds of each call, and the peak memory of the process in GiB."""
    call = load(path, image)
    call()
    clock, processor = [], []
    for _ in range(rounds):
        start = time.perf_counter(), time.process_time()
        call()
        clock.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
    # `getrusage` would include the memory of the parent before this program was loaded.
    status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
    return clock, processor, int(status["VmHWM"].split()[0]) / 2**20


def main(_):
    from keras_resnet.detection import export as detection
    from keras_resnet.detection.data.transforms import DetectionTransform
    from keras_resnet.detection.faster_rcnn import faster_rcnn

    size = tuple(map(int, FLAGS.size))
    options = {"post_nms_topk_test": FLAGS.proposals, "roi_pooling": FLAGS.roi_pooling, "policy": "float32"}
    options |= {"masks": FLAGS.masks, "detections_per_image": FLAGS.detections, "score_thresh": 0.0}
    model = faster_rcnn(FLAGS.backbone, FLAGS.classes, **options)
    transform = DetectionTransform(min(size), max(size), (123.68, 116.779, 103.939), (1.0, 1.0, 1.0))
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype("uint8")
    with tempfile.TemporaryDirectory() as folder:
        names = tuple(map(str, range(FLAGS.classes)))
        version = detection.export(model, pathlib.Path(folder, "versions"), transform, names)
        paths = {saved_model: str(version)}
        if not FLAGS.masks:  # which TFLite files do not contain
            paths[tflite] = str(pathlib.Path(folder, "model.tflite"))
            detection.export_tflite(model, paths[tflite], transform, size)
        print(f"{FLAGS.backbone}, {size[0]}x{size[1]}, {FLAGS.proposals} proposals, {FLAGS.roi_pooling}, ", end="")
        print(f"{FLAGS.detections} detections {'with' if FLAGS.masks else 'without'} masks:")
        for load, path in paths.items():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                clock, processor, peak = pool.apply(measure, (load, path, image, FLAGS.rounds))
            print(
                f"{load.__name__}: median {np.median(clock):.2f} s ({min(clock):.2f}-{max(clock):.2f}), "
                f"processor {np.median(processor):.2f} s; peak memory {peak:.2f} GiB",
                flush=True,
            )


if __name__ == "__main__":
    cli.quiet()
    app.run(main)
