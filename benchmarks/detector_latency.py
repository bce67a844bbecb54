"""How long a detector takes for a picture, and its memory: the exported SavedModel and the TFLite file.

python benchmarks/detector_latency.py --backbone=resnet50 --size=480,640
"""

import pathlib
import resource
import tempfile
import time

import numpy as np
import tensorflow as tf
from absl import app, flags

from keras_resnet import cli
from keras_resnet.data.boxes import BoxView
from keras_resnet.detection import faster_rcnn
from keras_resnet.serving import detection

FLAGS = flags.FLAGS
flags.DEFINE_string("backbone", "resnet50", "Network.")
flags.DEFINE_list("size", ["480", "640"], "Height and width of the picture in pixels, multiples of 16.")
flags.DEFINE_integer("proposals", 300, "Regions that are classified.")
flags.DEFINE_integer("classes", 20, "Object classes.")
flags.DEFINE_enum("roi_pooling", "max", ["max", "align"], "RoI pooling.")
flags.DEFINE_bool("tflite", True, "Measure TFLite too.")
flags.DEFINE_integer("rounds", 5, "Timed calls of each.")


def main(_):
    size = tuple(map(int, FLAGS.size))
    options = {"test_proposals": (6000, FLAGS.proposals), "roi_pooling": FLAGS.roi_pooling, "policy": "float32"}
    model = faster_rcnn(FLAGS.backbone, FLAGS.classes, **options)
    view = BoxView(min(size), max(size), (123.68, 116.779, 103.939), (1.0, 1.0, 1.0))
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype("uint8")
    with tempfile.TemporaryDirectory() as folder:
        detection.export(model, pathlib.Path(folder, "1"), view)
        serve = tf.saved_model.load(str(pathlib.Path(folder, "1"))).signatures["serving_default"]
        calls = {"SavedModel": lambda: serve(input_tensor=tf.constant(image))}
        if FLAGS.tflite:
            from ai_edge_litert.interpreter import Interpreter

            detection.export_tflite(model, pathlib.Path(folder, "model.tflite"), view, size)
            interpreter = Interpreter(str(pathlib.Path(folder, "model.tflite")), num_threads=2)
            runner = interpreter.get_signature_runner("serving_default")
            calls["TFLite, 2 threads"] = lambda: runner(images=image.astype("float32"))
        print(f"{FLAGS.backbone}, {size[0]}x{size[1]}, {FLAGS.proposals} regions, {FLAGS.roi_pooling}:")
        for name, call in calls.items():
            call()
            times = []
            for _ in range(FLAGS.rounds):
                start = time.perf_counter()
                call()
                times.append(time.perf_counter() - start)
            print(f"{name}: median {np.median(times):.2f} s ({min(times):.2f}-{max(times):.2f})")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of this process, exports included: {peak:.2f} GiB")


if __name__ == "__main__":
    cli.quiet()
    app.run(main)
