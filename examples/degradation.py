"""Degradation (section 4.1): compare a plain and a residual network of the same depth and recipe in one plot.

    python examples/degradation.py                           # minutes, on scanned digits
    python examples/degradation.py --steps=2 --depth=20      # a smoke run
    python examples/degradation.py --dataset=cifar10 --download --depth=20,56 --steps=64000 --learning_rate=0.1

The last command is Figure 6, and takes days on a CPU. Deep plain networks have a higher training error than shallow
ones; deep residual networks do not. The runs are saved in --workdir; rerun the same command to resume them.
`curves.png` shows their errors over steps, and `responses.png` the standard deviations of their layer responses
(Figure 7).
"""

import dataclasses
import pathlib

from absl import flags

from keras_resnet.classification.config import PRESETS
from keras_resnet.cli import main as cli
from keras_resnet.cli import script

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", "runs/degradation", "Folder of the runs and the plots.")
flags.DEFINE_list("depth", ["44"], "Depths, each a plain and a residual network: 20, 32, 44, 56 or 110.")
flags.DEFINE_enum("dataset", "digits", ["digits", "cifar10"], "Data set to train on.")
flags.DEFINE_string("data_dir", None, "Folder of prepared tensorflow-datasets; by default ~/tensorflow_datasets.")
flags.DEFINE_bool("download", False, "Download CIFAR-10 if it is missing.")
flags.DEFINE_integer("steps", 150, "Training steps of each network.", lower_bound=1)
flags.DEFINE_integer("batch_size", 64, "Images per step; 128 in the paper.", lower_bound=1)
flags.DEFINE_float("learning_rate", 0.02, "Initial learning rate; 0.1 in the paper.", lower_bound=0)
flags.DEFINE_integer("seed", 0, "Seed of all runs.", lower_bound=0)


def configs():
    """Yield the configuration of each network: the recipe of section 4.2, shortened to --steps."""
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
    from keras_resnet.classification import train

    workdir = pathlib.Path(FLAGS.workdir)
    runs = []
    for config in configs():
        runs.append(str(train.train(config, workdir / config.model).path))
    for verb in ("curves", "responses"):
        for plot in workdir.glob(f"{verb}.*"):  # of an earlier call
            plot.unlink()
        code = cli.run(verb, [f"--workdir={','.join(runs)}", f"--out={workdir / verb}.png"])
        if code:
            raise SystemExit(code)


if __name__ == "__main__":
    script.run(main)
