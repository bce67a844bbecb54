"""Train an ImageNet network: a whole training run in one file, without the package's training engine.

    python examples/train_imagenet.py --dataset=imagenet2012 --data_dir=/data/tfds
    python examples/train_imagenet.py --dataset=folder:/data/photos --eval_split=val --batch_size=64
    python examples/train_imagenet.py --dataset=synthetic:64x64x10 --image_size=64 --batch_size=8 --steps=2

Copy it and change what you need. `keras-resnet train --preset=imagenet_resnet50 --workdir=...` runs the same recipe
with checkpoints and resumable runs.
"""

from keras_resnet.cli import script  # first: it keeps the notices of TensorFlow off the terminal

# isort: split
import keras
from absl import flags

import keras_resnet
from keras_resnet import compat, files
from keras_resnet.data import pipeline, sources
from keras_resnet.data.transforms import EvalTransform, TrainTransform, resize_of
from keras_resnet.ops.normalization import IMAGENET_MEAN, IMAGENET_STD
from keras_resnet.training.losses import CrossEntropy, Top1Error
from keras_resnet.training.optimizers import SGD

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "ResNet50", "Network.")
flags.DEFINE_string("dataset", "imagenet2012", "Data set of tensorflow-datasets, or folder:PATH.")
flags.DEFINE_string("data_dir", None, "Folder of prepared tensorflow-datasets; by default ~/tensorflow_datasets.")
flags.DEFINE_string("eval_split", "validation", "Split to evaluate on; test for synthetic images.")
flags.DEFINE_integer("image_size", 224, "Side of the network's input.")
flags.DEFINE_integer("batch_size", 256, "Images per step.")
flags.DEFINE_integer("steps", 600_000, "Training steps.")
flags.DEFINE_enum("precision", "float32", ["float32", "mixed_bfloat16", "mixed_float16"], "Dtype policy.")
flags.DEFINE_string("weights", "imagenet.weights.h5", "File to write the trained weights to.")
flags.register_validator("weights", lambda name: name.endswith(".weights.h5"), "must end in .weights.h5")


def main(_):
    files.check_new(FLAGS.weights, "file", "weights")
    files.make_parent(FLAGS.weights, "weights")
    compat.set_dtype_policy(FLAGS.precision)
    dataset = sources.load(FLAGS.dataset, FLAGS.data_dir)
    size = (FLAGS.image_size, FLAGS.image_size)
    mean, std = [255 * value for value in IMAGENET_MEAN], [255 * value for value in IMAGENET_STD]
    # Section 3.4: resize the shorter side to a random length in [256, 480], crop and mirror at random, add color noise.
    scale_range = (resize_of(size), round(FLAGS.image_size * 480 / 224))
    transform = TrainTransform(size, mean, std, crop="scale", scale_range=scale_range, pca_noise=0.1)
    train = pipeline.train(dataset, FLAGS.batch_size, transform)
    eval_transform = EvalTransform(size, mean, std, resize=scale_range[0])
    test = pipeline.evaluate(dataset, FLAGS.batch_size, eval_transform, split=FLAGS.eval_split)

    model = getattr(keras_resnet, FLAGS.model)(
        input_shape=(*size, 3), classes=len(dataset.info.class_names), classifier_activation=None
    )
    # PiecewiseConstantDecay keeps the old learning rate up to and including its boundary.
    boundaries = [FLAGS.steps * part // 15 - 1 for part in (4, 8, 12)]
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, [0.1, 0.01, 0.001, 0.0001])
    model.compile(SGD(rate, momentum=0.9, l2=1e-4), CrossEntropy(), metrics=[Top1Error()])

    epochs = -(-FLAGS.steps // 5000)
    model.fit(train, steps_per_epoch=FLAGS.steps // epochs, epochs=epochs, validation_data=test, shuffle=False)
    model.save_weights(FLAGS.weights)


if __name__ == "__main__":
    script.run(main)
