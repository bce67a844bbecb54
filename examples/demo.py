"""Train a ResNet-20 on real images, evaluate it, export it, and check both exports.

python examples/demo.py                                   # scikit-learn's scanned digits, no network needed
python examples/demo.py --dataset=cifar10 --download      # CIFAR-10 from tensorflow-datasets, for hours
python examples/demo.py --steps=2                         # a smoke run
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
from absl import flags

from keras_resnet.classification.config import PRESETS
from keras_resnet.cli import script
from keras_resnet.errors import InputError

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", "runs/demo", "Folder of the run; only the default folder is replaced if it exists.")
flags.DEFINE_enum("dataset", "digits", ["digits", "cifar10"], "Data set to train on.")
flags.DEFINE_string("data_dir", None, "Folder of prepared tensorflow-datasets; by default ~/tensorflow_datasets.")
flags.DEFINE_bool("download", False, "Download CIFAR-10 if it is missing.")
flags.DEFINE_integer("steps", None, "Training steps; by default those of the preset.", lower_bound=1)


def run_saved_model(path: pathlib.Path, images: np.ndarray) -> np.ndarray:
    """Return the probabilities of a SavedModel from `saved_model_cli`, the loader of TF Serving, without Keras."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(pathlib.Path(folder, "images.npy"), images)
        command = [str(pathlib.Path(sys.executable).with_name("saved_model_cli")), "run", "--dir", str(path)]
        command += ["--tag_set", "serve", "--signature_def", "images"]
        command += ["--inputs", f"images={folder}/images.npy", "--outdir", folder]
        subprocess.run(command, check=True, capture_output=True)
        return np.load(pathlib.Path(folder, "probabilities.npy"))


def compare(name: str, ours: np.ndarray, theirs: np.ndarray, bound: float) -> None:
    """Print the largest difference between two sets of probabilities, and fail if it exceeds `bound`."""
    difference = np.abs(ours - theirs).max()
    agree = np.mean(ours.argmax(-1) == theirs.argmax(-1))
    print(f"{name}: max difference of probabilities {difference:.1e}, same class for {agree:.2%} of {len(ours)} images")
    if not difference <= bound:
        raise SystemExit(f"{name} differs by more than {bound}")


def main(_):
    from keras_resnet.classification import train
    from keras_resnet.data import pipeline, sources
    from keras_resnet.evaluation import exported, metrics
    from keras_resnet.ops import image
    from keras_resnet.serving import saved_model, tflite

    workdir = pathlib.Path(FLAGS.workdir)
    interrupted = (workdir / "config.json").exists() and not (workdir / "saved_model").exists()
    if workdir.exists() and not interrupted:
        if not (FLAGS["workdir"].using_default_value and (workdir / "config.json").exists()):
            raise InputError(f"workdir must be a folder that does not exist yet; {FLAGS.workdir!r} does.")
        shutil.rmtree(workdir)
    config = PRESETS[f"{FLAGS.dataset}_resnet20"].override(FLAGS.flag_values_dict())
    run = train.train(config, workdir)

    dataset = sources.load(config.dataset, config.data_dir)
    model = run.load()
    errors = metrics.evaluate(model.predict_on_batch, pipeline.evaluate(dataset, 256, run.eval_transform()))
    print(f"test error {errors.top1_error:.2f} % on {errors.count} held-out images")

    images = dataset.examples("test").images
    ours = model.predict(image.normalize(images, run.mean, run.std), batch_size=256, verbose=0)
    version = saved_model.export(run, workdir / "saved_model")
    compare("SavedModel", ours, run_saved_model(version, images), 1e-4)
    folder = tflite.export(run, workdir / "tflite", dataset=dataset, report_split="test")
    compare("TFLite", ours, exported.tflite(folder / "resnet20_float32.tflite").function(images), 1e-3)
    print((workdir / "tflite" / "report.md").read_text())
    print(f"see {workdir}/: " + ", ".join(sorted(path.name for path in workdir.iterdir())))


if __name__ == "__main__":
    script.run(main)
