"""Train a CIFAR network with Keras on JAX over all devices, without TensorFlow.

    python examples/train_jax.py                                           # downloads CIFAR-10
    python examples/train_jax.py --data=images.npz --steps=2               # x_train, y_train, x_test, y_test
    XLA_FLAGS=--xla_force_host_platform_device_count=2 python examples/train_jax.py ...   # two devices of a CPU

Copy it and change what you need. `keras.distribution.DataParallel` replicates the network on every device and splits
each batch. All devices run one program, so that batch norm sees the whole batch, and the result is that of one device.
Images are cropped and mirrored on the devices.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"

from keras_resnet.cli import script  # first: Ctrl-C ends the script in one line from here on

# isort: split
import keras
import numpy as np
from absl import flags
from keras import ops

import keras_resnet
from keras_resnet import files
from keras_resnet.errors import InputError
from keras_resnet.training.losses import CrossEntropy, Top1Error
from keras_resnet.training.optimizers import SGD

FLAGS = flags.FLAGS
flags.DEFINE_enum("model", "ResNet20", ["ResNet20", "ResNet32", "ResNet44", "ResNet56", "ResNet110"], "Network.")
flags.DEFINE_string("data", None, "File of NumPy arrays, images u8[N,32,32,3] and labels; by default CIFAR-10.")
flags.DEFINE_integer("steps", 64_000, "Training steps; the learning rate drops after 1/2 and 3/4 of them.")
flags.DEFINE_integer("batch_size", 128, "Images per step, over all devices.")
flags.DEFINE_float("learning_rate", 0.1, "Learning rate for the whole batch.")
flags.DEFINE_integer("devices", 0, "Number of devices; 0 for all.")
flags.DEFINE_integer("seed", 0, "Seed of initialization, order and augmentation.")
flags.DEFINE_string("weights", "cifar.weights.h5", "File to write the trained weights to.")
flags.register_validator("weights", lambda name: name.endswith(".weights.h5"), "must end in .weights.h5")


class CropAndMirror(keras.layers.Layer):
    """Augment as in section 4.2, f32[B,H,W,3] -> the same: pad each side by `pad` zeros, crop and mirror at random."""

    def __init__(self, pad=4, seed=0):
        super().__init__()
        self.pad, self.seeds = pad, keras.random.SeedGenerator(seed)

    def call(self, images, training=False):
        if not training:
            return images
        count, (height, width) = ops.shape(images)[0], images.shape[1:3]
        offsets = keras.random.randint((count, 2), 0, 2 * self.pad + 1, seed=self.seeds)
        mirrored = keras.random.uniform((count, 1), seed=self.seeds) < 0.5
        rows = offsets[:, :1] + ops.arange(height)  # i32[B,H]
        columns = offsets[:, 1:] + ops.where(mirrored, ops.arange(width - 1, -1, -1), ops.arange(width))  # i32[B,W]
        padded = ops.pad(images, [[0, 0], [self.pad, self.pad], [self.pad, self.pad], [0, 0]])
        cropped = ops.take_along_axis(padded, rows[:, :, None, None], axis=1)
        return ops.take_along_axis(cropped, columns[:, None, :, None], axis=2)


class Batches(keras.utils.PyDataset):
    """Batches as a pure function of seed and step: each epoch is a permutation, and batches continue across its end."""

    def __init__(self, images, labels, batch_size, steps, seed):
        super().__init__()
        self.images, self.labels, self.batch_size, self.steps, self.seed = images, labels, batch_size, steps, seed

    def __len__(self):
        return self.steps

    def __getitem__(self, step):
        count = len(self.labels)
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs = {epoch: np.random.default_rng((self.seed, epoch)).permutation(count) for epoch in set(places // count)}
        index = np.array([epochs[place // count][place % count] for place in places])
        return self.images[index], self.labels[index]


def arrays(path):
    """Return images u8[N,H,W,3] and labels i32[N] for training and for testing, and the number of classes."""
    if path is None:
        train, test = keras.datasets.cifar10.load_data()
    else:
        with np.load(path) as file:
            train, test = ((file[f"x_{part}"], file[f"y_{part}"]) for part in ("train", "test"))
    parts = [array for images, labels in (train, test) for array in (images, labels.reshape(-1).astype("int32"))]
    return *parts, int(parts[1].max()) + 1


def trainable(network, images, steps, learning_rate, seed):
    """Return a compiled model of normalization, augmentation and the network, u8[B,H,W,3] -> logits."""
    pixels = images.reshape(-1, 3)
    normalize = keras.layers.Normalization(mean=pixels.mean(0), variance=pixels.var(0))
    model = keras.Sequential([keras.Input(images.shape[1:]), normalize, CropAndMirror(seed=seed), network])
    rates = [learning_rate / factor for factor in (1, 10, 100)]
    # PiecewiseConstantDecay keeps the old learning rate up to and including its boundary.
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([steps // 2 - 1, steps * 3 // 4 - 1], rates)
    model.compile(SGD(rate, momentum=0.9, l2=1e-4), CrossEntropy(), metrics=[Top1Error()])
    return model


def main(_):
    files.check_new(FLAGS.weights, "file", "weights")
    files.make_parent(FLAGS.weights, "weights")
    devices = keras.distribution.list_devices()[: FLAGS.devices or None]
    if FLAGS.batch_size % len(devices):
        raise InputError(f"batch_size must be a multiple of the {len(devices)} devices; got {FLAGS.batch_size}.")
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    keras.utils.set_random_seed(FLAGS.seed)
    images, labels, test_images, test_labels, classes = arrays(FLAGS.data)
    print(f"{len(devices)} devices, {FLAGS.batch_size // len(devices)} images of a batch on each: {', '.join(devices)}")

    network = getattr(keras_resnet, FLAGS.model)(
        input_shape=images.shape[1:], classes=classes, classifier_activation=None
    )
    model = trainable(network, images, FLAGS.steps, FLAGS.learning_rate, FLAGS.seed)
    model.fit(Batches(images, labels, FLAGS.batch_size, FLAGS.steps, FLAGS.seed), shuffle=False)

    # Pad to whole batches, because each device must get the same number of images; drop the scores of the padding.
    count = len(test_images)
    filled = test_images[np.minimum(np.arange(-(-count // FLAGS.batch_size) * FLAGS.batch_size), count - 1)]
    scores = model.predict(filled, batch_size=FLAGS.batch_size, verbose=0)[:count]
    print(f"test error {100 * np.mean(scores.argmax(1) != test_labels):.2f} % of {count} images")
    network.save_weights(FLAGS.weights)


if __name__ == "__main__":
    script.run(main)
