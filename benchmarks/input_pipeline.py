"""Measure the images/s of the training pipelines, compared with what limits them.

    python benchmarks/input_pipeline.py --dataset=folder:/path/to/photos   # the paper's ImageNet transform
    python benchmarks/input_pipeline.py --dataset=cifar10 --data_dir=...   # the paper's CIFAR transform and ResNet-20

For files, the paper's transform (shorter side uniform in [256, 480], random 224 crop, mirror, color noise) is compared
with decoding alone and with the common way (decode, resize, random crop, mirror); for in-memory images, the transform
of section 4.2 with the training step of a ResNet-20. All in alternating rounds on the same number of threads; medians,
ranges and ratios.
"""

import itertools
import statistics
import time

import tensorflow as tf
from absl import app, flags

from keras_resnet.data import pipeline, sources
from keras_resnet.data.dataset import Images
from keras_resnet.data.transforms import TrainTransform

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", "digits", "Data set, of which the split 'train' is read.")
flags.DEFINE_string("data_dir", None, "Folder of prepared tensorflow-datasets.")
flags.DEFINE_integer("threads", 2, "Threads of every pipeline.", lower_bound=1)
flags.DEFINE_integer("batch_size", 0, "Images per batch; 0 for 32 files or 128 images in memory.", lower_bound=0)
flags.DEFINE_integer("batches", 20, "Untimed batches at the start of a round.", lower_bound=0)
flags.DEFINE_float("seconds", 3.0, "Timed seconds in a round.", lower_bound=0.0)
flags.DEFINE_integer("rounds", 7, "Rounds.", lower_bound=1)

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def raw_files(examples, function):
    """Return a pipeline of the same files in order, with one function applied to each file's contents."""
    paths = tf.data.Dataset.from_tensor_slices(examples.paths).repeat()
    return paths.map(lambda path: function(tf.io.read_file(path)), num_parallel_calls=FLAGS.threads)


def decode_only(contents):
    """Decode an image and return one pixel."""
    return tf.image.decode_jpeg(contents, channels=3)[0, 0]


def common_way(contents):
    """Apply the paper's transform as written in tutorials."""
    pixels = tf.image.decode_jpeg(contents, channels=3)
    size = tf.cast(tf.shape(pixels)[:2], tf.float32)
    scale = tf.cast(tf.random.uniform([], 256, 481, tf.int32), tf.float32) / tf.reduce_min(size)
    pixels = tf.image.resize(pixels, tf.cast(tf.math.ceil(size * scale), tf.int32))
    pixels = tf.image.random_crop(pixels, [224, 224, 3])
    return (tf.image.random_flip_left_right(pixels) - tf.constant(MEAN)) / tf.constant(STD)


def batched(records, batch_size):
    """Batch with the same number of private threads as this package's pipelines."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = FLAGS.threads
    return records.batch(batch_size).with_options(options).prefetch(tf.data.AUTOTUNE)


def train_step(batch_size):
    """Return a function that trains a ResNet-20 on one batch of random images."""
    import keras
    import numpy as np

    import keras_resnet

    model = keras_resnet.ResNet20()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    images = np.random.default_rng(0).normal(size=(batch_size, 32, 32, 3)).astype("float32")
    labels = np.arange(batch_size) % 10
    return lambda: model.train_on_batch(images, labels)


def main(_):
    dataset = sources.load(FLAGS.dataset, FLAGS.data_dir)
    examples = dataset.examples("train")
    if isinstance(examples, Images):
        batch_size = FLAGS.batch_size or 128
        transform = TrainTransform(dataset.info.image_size, MEAN, STD)
        ours = pipeline.train(dataset, batch_size, transform, threads=FLAGS.threads)
        kinds = {"section 4.2": ours.as_numpy_iterator().__next__, "ResNet-20 step": train_step(batch_size)}
    else:
        batch_size = FLAGS.batch_size or 32
        transform = TrainTransform((224, 224), MEAN, STD, crop="scale", pca_noise=0.1)
        ours = pipeline.train(dataset, batch_size, transform, threads=FLAGS.threads)
        kinds = {
            "section 3.4": ours.as_numpy_iterator().__next__,
            "decode only": batched(raw_files(examples, decode_only), batch_size).as_numpy_iterator().__next__,
            "common way": batched(raw_files(examples, common_way), batch_size).as_numpy_iterator().__next__,
        }
    rates = {kind: [] for kind in kinds}
    for _, (kind, step) in itertools.product(range(FLAGS.rounds), kinds.items()):
        for _ in range(FLAGS.batches):
            step()  # empty the buffers that were filled since the last round
        start, batches = time.perf_counter(), 0
        while time.perf_counter() - start < FLAGS.seconds:
            step()
            batches += 1
        rates[kind].append(batches * batch_size / (time.perf_counter() - start))
    first = statistics.median(next(iter(rates.values())))
    print(f"{FLAGS.dataset}, {batch_size} images per batch, {FLAGS.threads} threads")
    print("| pipeline | images/s (range) | first row / this row |\n|---|---:|---:|")
    for kind, values in rates.items():
        median = statistics.median(values)
        print(f"| {kind} | {median:.0f} ({min(values):.0f}-{max(values):.0f}) | {first / median:.2f} |")


if __name__ == "__main__":
    app.run(main)
