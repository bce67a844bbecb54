"""Degradation (section 4.1): a plain and a residual network of the same depth, trained alike, in one picture.

    python examples/degradation.py                           # minutes, on scanned digits
    python examples/degradation.py --steps=2 --depth=20      # a smoke run
    python examples/degradation.py --dataset=cifar10 --download --depth=20,56 --steps=64000 --learning_rate=0.1

The last one is Figure 6, and takes days on a CPU. Deep plain networks learn worse than shallow ones, in training error
too; deep residual networks do not. The runs stay in --workdir, and the same command goes on with them; `curves.png` has
their errors over steps, `responses.png` how strongly their layers answer (Figure 7).
"""

import dataclasses
import pathlib
import sys

from absl import app, flags

from keras_resnet.classification.config import PRESETS
from keras_resnet.cli import main as cli
from keras_resnet.errors import InputError

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", "runs/degradation", "Folder for a run of each network and the pictures.")
flags.DEFINE_list("depth", ["44"], "Depths, each a plain and a residual network: 20, 32, 44, 56 or 110.")
flags.DEFINE_enum("dataset", "digits", ["digits", "cifar10"], "Data set to train on.")
flags.DEFINE_string("data_dir", None, "Folder of prepared tensorflow-datasets; by default theirs.")
flags.DEFINE_bool("download", False, "Download CIFAR-10 where it is missing.")
flags.DEFINE_integer("steps", 150, "Training steps of each network.", lower_bound=1)
flags.DEFINE_integer("batch_size", 64, "Images in a step; the paper has 128.", lower_bound=1)
flags.DEFINE_float("learning_rate", 0.02, "Initial learning rate; the paper has 0.1.", lower_bound=0)
flags.DEFINE_integer("seed", 0, "Seed of all runs.", lower_bound=0)


def configs():
    """A configuration for each network: the recipe of section 4.2, the rate divided at a half and three quarters."""
    base = PRESETS[f"{FLAGS.dataset}_resnet20"]
    for depth in FLAGS.depth:
        for kind in ("plainnet", "resnet"):
            yield dataclasses.replace(
                base,
                model=f"{kind}{depth}",
                data_dir=FLAGS.data_dir,
                download=FLAGS.download,
                steps=FLAGS.steps,
                batch_size=FLAGS.batch_size,
                decay_steps=tuple(sorted({FLAGS.steps // 2, FLAGS.steps * 3 // 4} - {0})),
                learning_rate=FLAGS.learning_rate,
                eval_steps=max(FLAGS.steps // 10, 1),
                seed=FLAGS.seed,
            )


def main(_):
    cli.quiet()
    from keras_resnet.classification import train

    workdir = pathlib.Path(FLAGS.workdir)
    runs = []
    for config in configs():
        runs.append(str(train.train(config, workdir / config.model).path))
    for verb in ("curves", "responses"):
        code = cli.run(verb, [f"--workdir={','.join(runs)}", f"--out={workdir / verb}.png"])
        if code:
            raise SystemExit(code)


if __name__ == "__main__":
    try:
        app.run(main)
    except InputError as error:
        sys.exit(f"degradation: {error}")
