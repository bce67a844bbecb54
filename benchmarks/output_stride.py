"""Evaluate a segmenter's weights at several output strides: mean IoU, time and memory of an image and a training step.

    python benchmarks/output_stride.py --workdir=runs/camvid --data=CamVid --split=val

The weights are those of the run, which were trained at its own output stride; only dilations and strides change. Each
stride is measured in a separate process, the images at their own size in float32, the training step with the run's
crops, batch size and precision. Seconds are processor time over all cores: on a busy machine, wall time says little.
"""

import dataclasses
import multiprocessing
import pathlib
import time

import numpy as np
from absl import app, flags

from keras_resnet.cli import main as cli
from keras_resnet.evaluation.report import markdown_table

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
flags.DEFINE_string("data", None, "Folder of the data set; by default that of the run.")
flags.DEFINE_string("split", "val", "Split to evaluate on.")
flags.DEFINE_list("strides", ["32", "16", "8"], "Output strides.")
flags.DEFINE_integer("steps", 3, "Timed training steps.")


def peak_gib():
    """Return the peak memory of this process; `getrusage` would include that of the parent."""
    status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 2**20


def opened(workdir, data, stride):
    """Return the run, as if it had another output stride and data in another place."""
    from keras_resnet.segmentation.run import SegmenterRun

    run = SegmenterRun.open(workdir)
    dataset = f"folder:{data}" if data else run.config.dataset
    return dataclasses.replace(run, config=dataclasses.replace(run.config, output_stride=stride, dataset=dataset))


def evaluate(workdir, data, split, stride):
    """Return the mean IoU in percent, the seconds of an image, and the peak memory in GiB."""
    from keras_resnet.segmentation import evaluate, inference
    from keras_resnet.segmentation.data import pipeline

    run = opened(workdir, data, stride)
    predict = inference.predictor(run.load(policy="float32"))
    examples = run.dataset().examples(split)
    seconds = []

    def timed(images):
        start = time.process_time()
        result = predict(images)
        seconds.append(time.process_time() - start)
        return result

    batches = pipeline.evaluate(examples, run.transform())
    result = evaluate.evaluate(timed, batches, run.dataset_info.class_names, run.transform(), samples=0).result
    return result.mean_iou, float(np.median(seconds)), peak_gib()


def train(workdir, data, stride, steps):
    """Return the processor seconds of a training step, and the peak memory in GiB."""
    from keras_resnet.segmentation import losses, models
    from keras_resnet.training import finetuning

    run = opened(workdir, data, stride)
    config, rng = run.config, np.random.default_rng(0)
    model = run.build()
    finetuning.freeze(models.backbone_of(model), config.freeze_stages, config.freeze_norm)
    options = losses.compile_options(auxiliary=config.auxiliary, hard_fraction=config.hard_fraction)
    model.compile("sgd", **options, jit_compile=False)
    images = rng.normal(0, 1, (config.batch_size, *config.crop_size, 3)).astype("float32")
    labels = rng.integers(0, len(run.dataset_info.class_names), images.shape[:3])
    targets = {"logits": labels, "auxiliary": labels} if config.auxiliary else labels
    seconds = []
    for _ in range(steps + 1):
        start = time.process_time()
        model.train_on_batch(images, targets)
        seconds.append(time.process_time() - start)
    return float(np.median(seconds[1:])), peak_gib()


def main(_):
    rows = []
    for stride in map(int, FLAGS.strides):
        place = (FLAGS.workdir, FLAGS.data)
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            mean_iou, image_seconds, image_gib = pool.apply(evaluate, (*place, FLAGS.split, stride))
            step_seconds, step_gib = pool.apply(train, (*place, stride, FLAGS.steps))
        measured = (mean_iou, image_seconds, image_gib, step_seconds, step_gib)
        rows.append((str(stride), *(f"{value:.2f}" for value in measured)))
        print(" ".join(rows[-1]), flush=True)
    columns = ("mean IoU %", "s an image", "GiB", "s a training step", "GiB")
    print(markdown_table(("output stride",), columns, rows))


if __name__ == "__main__":
    cli.quiet()
    app.run(main)
