"""Fine-tune a network on a folder of photos with one subfolder per class.

    python examples/finetune_folder.py --data=PHOTOS --weights=resnet50.weights.h5 --workdir=runs/photos
    python examples/finetune_folder.py --data=PHOTOS --weights=imagenet --workdir=runs/photos

Copy it and change what you need. The new classifier is trained at the full learning rate and the backbone at a tenth
of it; conv1 and conv2_x are frozen. If the folder has no `val/`, a fifth of each class is held out for testing.
Afterwards:

    keras-resnet evaluate --workdir=runs/photos --split='train[80%:]'
    keras-resnet predict --workdir=runs/photos PHOTO...
"""

from keras_resnet.cli import script  # first: it keeps the notices of TensorFlow off the terminal

# isort: split
from absl import flags

from keras_resnet.classification.config import ClassifierConfig
from keras_resnet.classification.train import train
from keras_resnet.data import sources

FLAGS = flags.FLAGS
flags.DEFINE_string("data", None, "Folder with one subfolder per class.", required=True)
flags.DEFINE_string("weights", "imagenet", "Weights to start from: a file or a name.")
flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
flags.DEFINE_string("model", "resnet50", "Network of the weights.")
flags.DEFINE_integer("image_size", 224, "Side of the network's input.")
flags.DEFINE_integer("steps", 500, "Training steps.")
flags.DEFINE_integer("batch_size", 32, "Images per step.")
flags.DEFINE_float("learning_rate", 0.01, "Highest learning rate.")


def main(_):
    name = f"folder:{FLAGS.data}"
    held_out = "val" in sources.load(name).info.splits
    config = ClassifierConfig(
        dataset=name,
        train_split="train" if held_out else "train[:80%]",
        eval_split="val" if held_out else "train[80%:]",
        model=FLAGS.model,
        image_size=FLAGS.image_size,
        crop="inception",
        init_weights=FLAGS.weights,
        freeze_stages=2,
        backbone_lr_mult=0.1,
        optimizer="sgd",
        nesterov=True,
        schedule="cosine",
        decay_steps=(),
        warmup_steps=FLAGS.steps // 20,
        warmup_rate=0.0,
        learning_rate=FLAGS.learning_rate,
        steps=FLAGS.steps,
        batch_size=FLAGS.batch_size,
        eval_steps=max(1, FLAGS.steps // 5),
    )
    train(config, FLAGS.workdir)


if __name__ == "__main__":
    script.run(main)
