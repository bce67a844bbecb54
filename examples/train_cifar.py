"""Train a CIFAR network: a whole training run in one file, from top to bottom, without the package's training engine.

    python examples/train_cifar.py --data_dir=~/tensorflow_datasets --download
    python examples/train_cifar.py --dataset=digits --steps=2        # a smoke run without a download

Copy it and change what you need. `keras-resnet train --preset=cifar10_resnet20 --workdir=...` runs the same recipe with
checkpoints and resumable runs.
"""

from keras_resnet.cli import script  # first: it keeps the notices of TensorFlow off the terminal

# isort: split
import keras
from absl import flags

import keras_resnet
from keras_resnet import files
from keras_resnet.data import pipeline, sources
from keras_resnet.data.transforms import EvalTransform, TrainTransform
from keras_resnet.training.losses import CrossEntropy, Top1Error
from keras_resnet.training.optimizers import SGD

FLAGS = flags.FLAGS
flags.DEFINE_enum("model", "ResNet20", ["ResNet20", "ResNet32", "ResNet44", "ResNet56", "ResNet110"], "Network.")
flags.DEFINE_string("dataset", "cifar10", "Data set of 32x32 images.")
flags.DEFINE_string("data_dir", None, "Folder of prepared tensorflow-datasets; by default ~/tensorflow_datasets.")
flags.DEFINE_bool("download", False, "Download the data set if it is missing.")
flags.DEFINE_integer("steps", 64_000, "Training steps; the learning rate drops after 1/2 and 3/4 of them.")
flags.DEFINE_integer("batch_size", 128, "Images per step.")
flags.DEFINE_string("weights", "cifar.weights.h5", "File to write the trained weights to.")
flags.register_validator("weights", lambda name: name.endswith(".weights.h5"), "must end in .weights.h5")


def main(_):
    files.check_new(FLAGS.weights, "file", "weights")
    files.make_parent(FLAGS.weights, "weights")
    # Section 4.2: images are padded by 4 pixels, cropped at random and mirrored; batches never end.
    dataset = sources.load(FLAGS.dataset, FLAGS.data_dir, FLAGS.download)
    mean, std = dataset.info.mean, dataset.info.std
    train = pipeline.train(dataset, FLAGS.batch_size, TrainTransform((32, 32), mean, std))
    test = pipeline.evaluate(dataset, 256, EvalTransform((32, 32), mean, std))

    model = getattr(keras_resnet, FLAGS.model)(classes=len(dataset.info.class_names), classifier_activation=None)
    # PiecewiseConstantDecay keeps the old learning rate up to and including its boundary.
    boundaries = [FLAGS.steps // 2 - 1, FLAGS.steps * 3 // 4 - 1]
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, [0.1, 0.01, 0.001])
    model.compile(SGD(rate, momentum=0.9, l2=1e-4), CrossEntropy(), metrics=[Top1Error()])

    epochs = -(-FLAGS.steps // 1000)
    model.fit(train, steps_per_epoch=FLAGS.steps // epochs, epochs=epochs, validation_data=test, shuffle=False)
    model.save_weights(FLAGS.weights)


if __name__ == "__main__":
    script.run(main)
