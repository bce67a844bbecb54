"""Classify photographs with published weights, and plot them next to the probabilities of their best classes.

    python examples/predict.py PHOTO...
    python examples/predict.py --weights=resnet50_weights_tf_dim_ordering_tf_kernels.h5 --plot=best.png PHOTO...

Without --weights, the authors' ResNet-50 is downloaded once.
"""

import pathlib

from absl import flags

from keras_resnet import files
from keras_resnet.cli import script
from keras_resnet.errors import InputError

flags.DEFINE_string("weights", "imagenet", "Name of published weights, or a file.")
flags.DEFINE_string("model", None, "Network of the weights; not needed for files that name it. [resnet50 for a name]")
flags.DEFINE_integer("top", 5, "Number of classes.", lower_bound=1)
flags.DEFINE_string("plot", None, "PNG to write: each photograph next to bars for its best classes.")
FLAGS = flags.FLAGS


def plot(images, predictions, path: str) -> None:
    """Write a PNG with a row for each photograph.

    Args:
        images: the photographs after cropping, f32[B,H,W,3] in [0, 255].
        predictions: for each image a list of (class id, name, probability), best first.
        path: the file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.2 * len(images)), layout="constrained")
    rows = figure.subplots(len(images), 2, squeeze=False, width_ratios=[1, 2])
    for (left, right), pixels, best in zip(rows, images, predictions, strict=True):
        left.imshow(pixels.astype("uint8"))
        left.axis("off")
        places = range(len(best))
        bars = right.barh(places, [probability for *_, probability in best])
        # By position, because two of ImageNet's classes have the same name.
        right.set_yticks(places, [name for _, name, _ in best])
        right.bar_label(bars, [f"{probability:.3f}" for *_, probability in best], padding=3)
        right.invert_yaxis()
        right.set_xlim(0, 1.15)
        right.spines[["top", "right"]].set_visible(False)
    rows[-1][1].set_xlabel("probability")
    figure.savefig(path, dpi=120)


def main(arguments):
    photos = arguments[1:]
    if not photos:
        raise InputError("predict requires at least one photograph: predict.py PHOTO...")
    if FLAGS.plot and pathlib.Path(FLAGS.plot).suffix != ".png":
        raise InputError(f"plot must be a .png file; got {FLAGS.plot!r}.")
    files.check_new(FLAGS.plot or None, "file", "plot")
    import numpy as np

    from keras_resnet.classification.pretrained import Pretrained
    from keras_resnet.models.predictions import decode_predictions
    from keras_resnet.models.weights import published
    from keras_resnet.ops import codecs

    named = published.is_name(FLAGS.weights)
    source = Pretrained.open(FLAGS.weights, FLAGS.model or ("resnet50" if named else None))
    transform, model, names = source.photo_transform(), source.load(), source.dataset_info.class_names
    images = np.stack([codecs.read(photo, transform.decode) for photo in photos])
    probabilities = model.predict(transform.batch(images), batch_size=8, verbose=0)
    predictions = decode_predictions(probabilities, min(FLAGS.top, len(names)), names)
    for photo, best in zip(photos, predictions, strict=True):
        print(f"{photo}:")
        for _, name, probability in best:
            print(f"  {probability:6.1%}  {name}")
    if FLAGS.plot:
        plot(images, predictions, FLAGS.plot)
        print(f"wrote {FLAGS.plot}")


if __name__ == "__main__":
    script.run(main)
