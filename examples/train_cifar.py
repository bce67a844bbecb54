"""Train a CIFAR network with `model.fit`, from the package's parts: written to be copied and changed.

    python examples/train_cifar.py --data_dir=~/tensorflow_datasets --download
    python examples/train_cifar.py --dataset=digits --steps=2        # a smoke run without a download

The command `keras-resnet train --preset=cifar10_resnet20 --workdir=...` does the same with checkpoints and resume.
"""

import sys

import keras
from absl import app, flags

import keras_resnet
from keras_resnet.cli import main as cli
from keras_resnet.data import pipeline, sources
from keras_resnet.data.transforms import EvalTransform, TrainTransform
from keras_resnet.errors import InputError
from keras_resnet.training.losses import CrossEntropy, Top1Error
from keras_resnet.training.optimizers import SGD

FLAGS = flags.FLAGS
flags.DEFINE_enum("model", "ResNet20", ["ResNet20", "ResNet32", "ResNet44", "ResNet56", "ResNet110"], "Network.")
flags.DEFINE_string("dataset", "cifar10", "Data set of 32x32 images.")
flags.DEFINE_string("data_dir", None, "Folder of prepared tensorflow-datasets; by default theirs.")
flags.DEFINE_bool("download", False, "Download the data set where it is missing.")
flags.DEFINE_integer("steps", 64_000, "Training steps; the rate is divided by 10 at a half and three quarters.")
flags.DEFINE_integer("batch_size", 128, "Images in a step.")
flags.DEFINE_string("weights", "cifar.weights.h5", "File to write the trained weights to.")
flags.register_validator("weights", lambda name: name.endswith(".weights.h5"), "must end in .weights.h5")


def main(_):
    dataset = sources.load(FLAGS.dataset, FLAGS.data_dir, FLAGS.download)
    facts = dataset.info
    train = pipeline.train(dataset, FLAGS.batch_size, TrainTransform((32, 32), facts.mean, facts.std))
    test = pipeline.evaluate(dataset, 256, EvalTransform((32, 32), facts.mean, facts.std))

    model = getattr(keras_resnet, FLAGS.model)(classes=len(facts.class_names), classifier_activation=None)
    boundaries = [FLAGS.steps // 2, FLAGS.steps * 3 // 4]
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, [0.1, 0.01, 0.001])
    model.compile(SGD(rate, momentum=0.9, l2=1e-4), CrossEntropy(), metrics=[Top1Error()])

    epochs = -(-FLAGS.steps // 1000)
    model.fit(train, steps_per_epoch=FLAGS.steps // epochs, epochs=epochs, validation_data=test, shuffle=False)
    model.save_weights(FLAGS.weights)


if __name__ == "__main__":
    cli.quiet()
    try:
        app.run(main)
    except InputError as error:
        sys.exit(f"train_cifar: {error}")
