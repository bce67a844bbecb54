"""The command `keras-resnet`: train, evaluate, predict, export, convert.

keras-resnet train --preset=cifar10_resnet20 --workdir=runs/r20
keras-resnet evaluate --workdir=runs/r20
keras-resnet predict --workdir=runs/r20 PHOTO...
keras-resnet predict --weights=imagenet --model=resnet50 PHOTO...
keras-resnet export --workdir=runs/r20 --format=saved_model --out=models/r20/1
keras-resnet convert resnet50-0676ba61.pth resnet50.weights.h5
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence

from absl import flags as absl_flags
from absl import logging as absl_logging

from keras_resnet import flags
from keras_resnet.config import PRESETS
from keras_resnet.errors import InputError, check_choice


def _workdir_flag(values: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=values)


def _source_flags(values: absl_flags.FlagValues) -> None:
    """The flags that name a trained network: a run's folder, or weights."""
    _workdir_flag(values)
    help = 'Instead of --workdir: a weights file, or a name such as "imagenet", which is downloaded.'
    absl_flags.DEFINE_string("weights", None, help, flag_values=values)
    help = "Network of the weights: resnet50, ...; not needed for a file that says it."
    absl_flags.DEFINE_string("model", None, help, flag_values=values)
    help = "Preprocessing of the weights, caffe, torch or tf; not needed for a file that says it."
    absl_flags.DEFINE_string("preprocessing", None, help, flag_values=values)


def _opened(values: absl_flags.FlagValues):
    """The trained network that the flags of `_source_flags` name: a `Workdir` or a `Pretrained`."""
    if bool(values.workdir) == bool(values.weights):
        given = "both were" if values.workdir else "neither was"
        raise InputError(f"workdir or weights must be given, --workdir=FOLDER or --weights=NAME|FILE; {given}.")
    if values.workdir and (values.model or values.preprocessing):
        raise InputError("model and preprocessing go with weights; a workdir has its own.")

    from keras_resnet.pretrained import Pretrained
    from keras_resnet.workdir import Workdir

    if values.workdir:
        return Workdir.open(values.workdir)
    return Pretrained.open(values.weights, values.model, mode=values.preprocessing)


def _required(values: absl_flags.FlagValues, name: str) -> str:
    if not values[name].value:
        raise InputError(f"{name} must be given: --{name}=...")
    return values[name].value


def train(arguments: Sequence[str]) -> int:
    """Train a network and write everything about the run to --workdir; the same command again goes on with it."""
    values = absl_flags.FlagValues()
    _workdir_flag(values)
    absl_flags.DEFINE_string("preset", None, f"Start from a preset: {', '.join(PRESETS)}.", flag_values=values)
    absl_flags.DEFINE_string("config", None, "Start from a config.json of another run.", flag_values=values)
    flags.define(values)
    if not _parsed(values, arguments, train, positional=False):
        return 0
    config, workdir = flags.config(values), _required(values, "workdir")

    from keras_resnet.training import checkpoints, loop

    try:
        run = loop.train(config, workdir)
    except checkpoints.Stopped as stopped:
        print(f"keras-resnet train: {stopped}", file=sys.stderr)
        return 128 + stopped.signal
    except FloatingPointError as error:
        raise InputError(str(error)) from error
    print(f"wrote {run.path}")
    return 0


def evaluate(arguments: Sequence[str]) -> None:
    """Print the error of a run on a split of its data set."""
    values = absl_flags.FlagValues()
    _source_flags(values)
    absl_flags.DEFINE_string("split", "test", "Split to evaluate on.", flag_values=values)
    absl_flags.DEFINE_integer("batch_size", 256, "Images in a batch.", lower_bound=1, flag_values=values)
    if not _parsed(values, arguments, evaluate, positional=False):
        return
    run = _opened(values)

    from keras_resnet.data import datasets, pipeline
    from keras_resnet.evaluation import classification

    dataset = datasets.load(run.config.dataset, run.config.data_dir)
    model = run.load()
    batches = pipeline.evaluate(
        dataset, values.batch_size, run.eval_view(), split=values.split, max_pixels=run.config.max_pixels
    )
    errors = classification.evaluate(model.predict_on_batch, batches)
    print(f"{run.config.model} on {run.config.dataset} {values.split}, {errors.count} images:")
    print(f"top-1 error {errors.top1_error:.2f} %, top-5 error {errors.top5_error:.2f} %")


def predict(arguments: Sequence[str]) -> None:
    """Print the best classes of each image file."""
    values = absl_flags.FlagValues()
    _source_flags(values)
    absl_flags.DEFINE_integer("top", 5, "How many classes.", lower_bound=1, flag_values=values)
    photos = _parsed(values, arguments, predict)
    if photos is None:
        return
    if not photos:
        raise InputError("predict needs at least one image file.")
    run = _opened(values)

    from keras_resnet.models.predictions import decode_predictions
    from keras_resnet.ops import image

    model, view = run.load(), run.photo_view()
    names = run.facts.class_names
    for photo in photos:
        scores = model.predict_on_batch(view.batch(image.read(photo, view.decode)[None]))
        best = decode_predictions(scores, min(values.top, len(names)), names)[0]
        print(f"{photo}: " + ", ".join(f"{name} {score:.3f}" for _, name, score in best))


def export(arguments: Sequence[str]) -> None:
    """Write a run's network as a SavedModel or a TFLite file."""
    values = absl_flags.FlagValues()
    _source_flags(values)
    absl_flags.DEFINE_string("format", "saved_model", "saved_model or tflite.", flag_values=values)
    absl_flags.DEFINE_string("out", None, "Folder or file to make; it must not exist.", flag_values=values)
    if not _parsed(values, arguments, export, positional=False):
        return
    check_choice("format", values.format, ("saved_model", "tflite"))
    out, run = _required(values, "out"), _opened(values)

    from keras_resnet.serving import saved_model, tflite

    exporter = {"saved_model": saved_model, "tflite": tflite}[values.format]
    exporter.export(run.load(), out, run.mean, run.std)
    print(f"wrote {out}")


def convert(arguments: Sequence[str]) -> None:
    """Write a weights file, or a run's weights, as .weights.h5 or as .safetensors with torchvision's names: IN OUT."""
    values = absl_flags.FlagValues()
    absl_flags.DEFINE_string("model", None, "Network, for a file that does not say all of it.", flag_values=values)
    help = (
        "Bottlenecks have their stride in the first 1x1 (v1), not in the 3x3 (v1.5); for a file that does not say it."
    )
    absl_flags.DEFINE_bool("stride_in_1x1", None, help, flag_values=values)
    paths = _parsed(values, arguments, convert)
    if paths is None:
        return
    if len(paths) != 2:
        raise InputError(f"convert needs two arguments, IN and OUT; got {len(paths)}.")
    source, out = paths
    info = None

    from keras_resnet import pretrained
    from keras_resnet.models import convert as conversion
    from keras_resnet.workdir import Workdir

    if os.path.isdir(source):
        run = Workdir.open(source)
        source, info = run.weights, pretrained.run_info(run)
    model = conversion.convert(source, out, values.model, stride_in_1x1=values.stride_in_1x1, info=info)
    print(f"wrote {out}: {model.name}, {model.count_params():,} numbers")


VERBS = {"train": train, "evaluate": evaluate, "predict": predict, "export": export, "convert": convert}


def _parsed(values, arguments, verb, positional: bool = True):
    """Parse a verb's flags; return the positional arguments or True, or None where help was asked for and printed."""
    if {"--help", "-h", "-help"} & set(arguments):
        print(f"keras-resnet {verb.__name__}: {verb.__doc__}\n")
        for name in values:
            print(f"  --{name}: {values[name].help}")
        return None
    rest = flags.parse(values, [f"keras-resnet {verb.__name__}", *arguments])
    if positional:
        return rest
    if rest:
        raise InputError(f"{verb.__name__} takes flags only; got {rest}.")
    return True


def quiet() -> None:
    """Keep TensorFlow's notes off the terminal; warnings and errors stay. To be called before it is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    absl_logging.set_verbosity(absl_logging.WARNING)


def run(verb: str, arguments: Sequence[str], verbs: Mapping[str, Callable] | None = None) -> int:
    """Run one verb; a user's mistake is printed in one sentence.

    Args:
        verb: its name.
        arguments: its flags and files.
        verbs: name -> function; by default those of classifiers, or of detectors where the preset or workdir is theirs.

    Returns:
        The exit code: 0, 1 for a user's mistake, 128 and the signal's number after SIGTERM (143) or Ctrl-C (130).
    """
    quiet()
    from keras_resnet import detector_cli

    verbs = verbs or (detector_cli.VERBS if detector_cli.wanted(arguments) else VERBS)
    try:
        return verbs[verb](arguments) or 0
    except InputError as error:
        print(f"keras-resnet {verb}: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        # An error that a pipeline raised inside TensorFlow comes back as one of TensorFlow's, with its text in it.
        said = re.search(r"InputError:\]? ?\[?(.+?)\]*$", str(error).replace("'\\n'", ""), re.MULTILINE)
        if not said or not type(error).__module__.startswith("tensorflow"):
            raise
        print(f"keras-resnet {verb}: {said.group(1)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"keras-resnet {verb}: interrupted", file=sys.stderr)
        return 130


def main(arguments: Sequence[str] | None = None) -> int:
    """The console command."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(__doc__)
        for name, verb in VERBS.items():
            print(f"  {name:10} {verb.__doc__}")
        print("\nkeras-resnet VERB --help lists the flags of a verb.")
        return 0
    if arguments[0] not in VERBS:
        print(f"keras-resnet: the verb must be one of {', '.join(VERBS)}; got {arguments[0]!r}.", file=sys.stderr)
        return 1
    return run(arguments[0], arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
