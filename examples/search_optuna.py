"""Search the hyperparameters of a classifier with Optuna, around `keras_resnet.classification.train`.

    pip install optuna
    python examples/search_optuna.py --workdir=runs/search                         # scanned digits, minutes
    python examples/search_optuna.py --workdir=runs/search --trials=2 --steps=2    # a smoke run

Copy it and change `suggest`, the space that is searched. Each trial is a run with a folder of its own. The first trial
has the settings of the preset. Trials are compared by their error on a part of the training images; at the end, the
preset's and the best settings are trained on all of them and compared on the test images. Rerun the same command to
resume: the study is in `study.db` of --workdir. `search.png` shows all trials.
"""

from keras_resnet.cli import script  # first: it keeps the notices of TensorFlow off the terminal

# isort: split
import dataclasses
import pathlib

import keras
import matplotlib.pyplot as plt
import optuna
from absl import flags

from keras_resnet.classification.config import PRESETS, ClassifierConfig
from keras_resnet.classification.train import train
from keras_resnet.experiment import curves, plots

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", "runs/search", "Folder of the study and its runs.")
flags.DEFINE_integer("trials", 20, "Trials in all.", lower_bound=1)
flags.DEFINE_integer("steps", 60, "Training steps of a trial.", lower_bound=2)
flags.DEFINE_integer("batch_size", 32, "Images per step.", lower_bound=1)
flags.DEFINE_integer("early_stopping", 3, "Evaluations without a lower error that end a trial; 0 for never.")
flags.DEFINE_enum("precision", "float32", ["float32", "mixed_bfloat16"], "Dtype policy of the convolutions.")
flags.DEFINE_integer("seed", 0, "Seed of the search and of all runs.", lower_bound=0)

PRESET = PRESETS["digits_resnet20"]


def suggest(trial: optuna.Trial) -> dict[str, object]:
    """Return the settings of a trial, fields of `ClassifierConfig`."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 1.0, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-5, 1e-2, log=True),
        "nesterov": trial.suggest_categorical("nesterov", [False, True]),
        "label_smoothing": trial.suggest_float("label_smoothing", 0.0, 0.2),
        "pad": trial.suggest_int("pad", 0, 4),
    }


def config(**settings: object) -> ClassifierConfig:
    """Return the configuration of a run of --steps, with a learning rate that decays to zero."""
    base = {
        "schedule": "cosine",
        "decay_steps": (),
        "steps": FLAGS.steps,
        "batch_size": FLAGS.batch_size,
        "eval_steps": max(FLAGS.steps // 6, 1),
        "precision": FLAGS.precision,
        "seed": FLAGS.seed,
        "log": (),
    }
    return dataclasses.replace(PRESET, **base | settings)


def errors(config: ClassifierConfig, workdir: pathlib.Path) -> list[float]:
    """Train and return the errors of all evaluations on `eval_split` in percent."""
    keras.backend.clear_session()  # of the run before
    run = train(config, workdir)
    return [record["val_top1_error"] for record in curves.read_metrics(run.metrics)]


def objective(trial: optuna.Trial) -> float:
    """Return the lowest error of a trial on images that are held out of the training images, in percent."""
    settings = suggest(trial) | {"early_stopping": FLAGS.early_stopping}
    held_out = {"train_split": "train[:75%]", "eval_split": "train[75%:]"}
    try:
        return min(errors(config(**settings, **held_out), pathlib.Path(FLAGS.workdir, f"trial{trial.number}")))
    except FloatingPointError:  # the learning rate is too high
        return 100.0


def plot(study: optuna.Study, path: pathlib.Path) -> None:
    """Draw the error of the trials in their order and over the learning rate."""
    trials = [trial for trial in study.trials if trial.value is not None]
    errors = [trial.value for trial in trials]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5), sharey=True, layout="constrained")
    left.plot([trial.number for trial in trials], errors, "o", label="trial")
    best = [min(errors[: number + 1]) for number in range(len(errors))]
    left.step([trial.number for trial in trials], best, where="post", label="lowest so far")
    left.set(xlabel="trial", ylabel="top-1 error on held-out images (%)", ylim=(0, None))
    plots.whole_numbers(left.xaxis)
    left.legend()
    right.scatter([trial.params["learning_rate"] for trial in trials], errors)
    right.set(xlabel="learning rate", xscale="log")
    figure.savefig(path, dpi=100)


def main(_):
    workdir = pathlib.Path(FLAGS.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(study_name="search", storage=f"sqlite:///{workdir}/study.db", load_if_exists=True)
    finished = sum(trial.value is not None for trial in study.trials)
    # Another seed for a resumed search, which would otherwise draw its first trials again.
    study.sampler = optuna.samplers.TPESampler(seed=FLAGS.seed + len(study.trials))
    start = {name: getattr(PRESET, name) for name in ("learning_rate", "weight_decay", "nesterov", "pad")}
    study.enqueue_trial(start | {"label_smoothing": PRESET.label_smoothing}, skip_if_exists=True)
    study.optimize(objective, n_trials=max(FLAGS.trials - finished, 0))
    plot(study, workdir / "search.png")
    trials = sorted((trial for trial in study.trials if trial.value is not None), key=lambda trial: trial.value)
    for trial in trials[:5]:
        settings = ", ".join(f"{name}={value:.3g}" for name, value in trial.params.items())
        print(f"trial {trial.number}: error {trial.value:.2f} %, {settings}")
    best = study.best_trial
    for name, folder, settings in (("preset", "preset", start), ("best", f"best{best.number}", best.params)):
        print(f"{name}: test error {errors(config(**settings), workdir / folder)[-1]:.2f} % after the last step")


if __name__ == "__main__":
    script.run(main)
