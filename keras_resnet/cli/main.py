"""The command `keras-resnet`: train, evaluate, predict, export, convert, launch, and the paper's pictures and tables.

keras-resnet train --preset=cifar10_resnet20 --workdir=runs/r20
keras-resnet launch --workers=2 train --preset=cifar10_resnet20 --workdir=runs/r20
keras-resnet evaluate --workdir=runs/r20 --views=single,ten_crop --out=report
keras-resnet evaluate --weights=imagenet --model=resnet50 --dataset=folder:/data/val --views=multi_scale
keras-resnet predict --workdir=runs/r20 PHOTO...
keras-resnet predict --weights=imagenet --model=resnet50 PHOTO...
keras-resnet export --workdir=runs/r20 --format=saved_model --out=models/r20
keras-resnet convert resnet50-0676ba61.pth resnet50.weights.h5
keras-resnet responses --workdir=runs/r20,runs/plain20 --out=responses.png
keras-resnet curves --workdir=runs/r20,runs/plain20 --out=curves.png
keras-resnet costs --stages ResNet50 ResNet101
keras-resnet reproduce table6 --steps=6000 --out=reproduction
"""

from __future__ import annotations

import functools
import logging
import os
import pathlib
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence

from absl import flags as absl_flags
from absl import logging as absl_logging

from keras_resnet.cli import flags
from keras_resnet.errors import InputError, PeerLost, Stopped, check_choice


def _source_flags(values: absl_flags.FlagValues) -> None:
    """The flags that name a trained network: a run's folder, or weights."""
    flags.workdir(values)
    help = 'Instead of --workdir: a weights file, or a name such as "imagenet", which is downloaded.'
    absl_flags.DEFINE_string("weights", None, help, flag_values=values)
    help = "Network of the weights: resnet50, ...; not needed for a file that says it."
    absl_flags.DEFINE_string("model", None, help, flag_values=values)
    help = "Preprocessing of the weights, caffe, torch or tf; not needed for a file that says it."
    absl_flags.DEFINE_string("preprocessing", None, help, flag_values=values)


def _workdirs_flag(values: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_list("workdir", [], "Folders of one or several runs, with commas between.", flag_values=values)


def _sources_flags(values: absl_flags.FlagValues) -> None:
    """The flags that name several trained networks: runs' folders and weights."""
    _workdirs_flag(values)
    help = 'Beside or instead of --workdir: weights files, or names such as "imagenet", with commas between.'
    absl_flags.DEFINE_list("weights", [], help, flag_values=values)
    help = "Networks of the weights, one for each or one for all: resnet50,resnet101; not needed for files that say it."
    absl_flags.DEFINE_list("model", [], help, flag_values=values)
    help = "Preprocessing of the weights, likewise: caffe, torch or tf."
    absl_flags.DEFINE_list("preprocessing", [], help, flag_values=values)


def _sources(values: absl_flags.FlagValues) -> list:
    """The trained networks that the flags of `_sources_flags` name: `ClassifierRun`s and `Pretrained`s."""
    from keras_resnet.classification.pretrained import Pretrained
    from keras_resnet.classification.run import ClassifierRun

    models, modes = (_for_each_weights(values, name) for name in ("model", "preprocessing"))
    return [ClassifierRun.open(path) for path in values.workdir] + [
        Pretrained.open(weights, model, mode=mode)
        for weights, model, mode in zip(values.weights, models, modes, strict=True)
    ]


def _for_each_weights(values: absl_flags.FlagValues, name: str) -> list[str | None]:
    """The values of a flag that goes with --weights: one for each of them."""
    given, count = values[name].value, len(values.weights)
    if given and (not count or len(given) not in (1, count)):
        raise InputError(f"{name} must have one value, or one for each of weights ({count}); got {len(given)}.")
    return [value or None for value in given] if len(given) > 1 else (given or [None]) * count


def _integers(name: str, items: Sequence[str]) -> tuple[int, ...]:
    try:
        return tuple(int(item) for item in items if item)
    except ValueError:
        raise InputError(f"{name} must be a list of integers such as 224,256; got {','.join(items)!r}.") from None


def _picture(values: absl_flags.FlagValues) -> pathlib.Path:
    """The picture that --out names, in a folder that exists now."""
    out = pathlib.Path(flags.required(values, "out"))
    check_choice("out's ending", out.suffix.lower(), (".png", ".pdf", ".svg"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"out must be a file that can be written; {str(out)!r} cannot: {error.strerror}.") from error
    return out


def _opened(values: absl_flags.FlagValues):
    """The trained network that the flags of `_source_flags` name: a `ClassifierRun` or a `Pretrained`."""
    if bool(values.workdir) == bool(values.weights):
        given = "both were" if values.workdir else "neither was"
        raise InputError(f"workdir or weights must be given, --workdir=FOLDER or --weights=NAME|FILE; {given}.")
    if values.workdir and (values.model or values.preprocessing):
        raise InputError("model and preprocessing go with weights; a workdir has its own.")

    from keras_resnet.classification.pretrained import Pretrained
    from keras_resnet.classification.run import ClassifierRun

    if values.workdir:
        return ClassifierRun.open(values.workdir)
    return Pretrained.open(values.weights, values.model, mode=values.preprocessing)


def train(arguments: Sequence[str]) -> None:
    """Train a network and write everything about the run to --workdir; the same command again goes on with it."""
    values = absl_flags.FlagValues()
    flags.define_run(values)
    if not flags.parsed(values, arguments, train, positional=False):
        return
    config, workdir = flags.config(values), flags.required(values, "workdir")
    strategy = flags.made_strategy(values)

    from keras_resnet.classification.train import train as train_classifier
    from keras_resnet.distribute import collectives

    run = train_classifier(config, workdir, strategy)
    if collectives.is_chief(strategy):
        print(f"wrote {run.path}")


def evaluate(arguments: Sequence[str]) -> None:
    """Print the errors of runs, of their ensemble and of exported networks; --out writes tables and pictures."""
    values = absl_flags.FlagValues()
    _sources_flags(values)
    define = {
        kind: functools.partial(getattr(absl_flags, f"DEFINE_{kind}"), flag_values=values)
        for kind in ("string", "integer", "list", "bool")
    }
    define["string"]("saved_model", None, "Folder of a SavedModel to evaluate, beside the runs or alone.")
    define["string"]("tflite", None, "TFLite file to evaluate, beside the runs or alone.")
    define["string"]("dataset", None, "Data set; by default that of the first run.")
    define["string"]("data_dir", None, "Folder of prepared tensorflow-datasets; by default the run's.")
    define["string"]("split", None, "Split to evaluate on; by default test, or else validation or val.")
    define["list"]("views", ["single"], "Any of single, ten_crop and multi_scale, a row of the table for each.")
    define["list"]("scales", ["224", "256", "384", "480", "640"], "Shorter sides of multi_scale in pixels.")
    define["bool"]("mirror", False, "Let multi_scale see the mirrored image too.")
    define["integer"]("resize", None, "Shorter side before crops; by default the run's.", lower_bound=1)
    define["string"]("average", "probabilities", "What is averaged over views and networks: probabilities or logits.")
    define["integer"]("recalibrate", 0, "Recompute batch norm over so many training images first.", lower_bound=0)
    define["integer"]("batch_size", 256, "Pictures that a network sees at a time.", lower_bound=1)
    define["string"]("out", None, "Folder to make with results.json, results.md and pictures.")
    flags.strategy(values)
    if not flags.parsed(values, arguments, evaluate, positional=False):
        return
    if not (values.workdir or values.weights or values.saved_model or values.tflite):
        raise InputError("workdir, weights, saved_model or tflite must be given: --workdir=...")

    strategy = flags.made_strategy(values)

    from keras_resnet.classification import evaluate as session
    from keras_resnet.distribute import collectives
    from keras_resnet.evaluation import report

    report.check(values.out)
    plan = session.EvalConfig(
        views=tuple(values.views),
        scales=_integers("scales", values.scales),
        mirror=values.mirror,
        resize=values.resize,
        average=values.average,
        recalibrate=values.recalibrate,
        batch_size=values.batch_size,
    )
    with collectives.together(strategy):
        collectives.check_same(strategy, {"arguments": list(arguments)}, "the command")
        evaluated = session.evaluate(
            _sources(values),
            plan,
            saved_model=values.saved_model,
            tflite=values.tflite,
            dataset=values.dataset,
            data_dir=values.data_dir,
            split=values.split,
            strategy=strategy,
        )
    if not collectives.is_chief(strategy):
        return
    print(report.table(evaluated.rows))
    if values.out:
        evaluated.write(values.out, shlex.join(["keras-resnet", "evaluate", *arguments]))
        print(f"wrote {values.out}")


def responses(arguments: Sequence[str]) -> None:
    """Draw how strongly each 3x3 layer of runs answers (Figure 7), and write the numbers beside the picture."""
    values = absl_flags.FlagValues()
    _sources_flags(values)
    absl_flags.DEFINE_string("dataset", None, "Data set; by default that of the first run.", flag_values=values)
    absl_flags.DEFINE_string("data_dir", None, "Folder of prepared tensorflow-datasets.", flag_values=values)
    absl_flags.DEFINE_string("split", None, "Split to show; by default that of evaluation.", flag_values=values)
    absl_flags.DEFINE_integer("batch_size", 256, "Images in a batch.", lower_bound=1, flag_values=values)
    absl_flags.DEFINE_string("out", "responses.png", "Annotation to write, and a .csv of its name.", flag_values=values)
    if not flags.parsed(values, arguments, responses, positional=False):
        return
    out = _picture(values)
    sources = _sources(values)
    if not sources:
        raise InputError("workdir or weights must be given: --workdir=...")

    from keras_resnet.classification import evaluate as session
    from keras_resnet.paper import responses as layer_responses

    found = session.responses(sources, values.dataset, values.data_dir, values.split, values.batch_size)
    layer_responses.plot(found, out)
    layer_responses.write_csv(found, out.with_suffix(".csv"))
    for one in found:
        print(f"{one.name}: {len(one.layers)} layers of 3x3, mean standard deviation {one.deviations.mean():.3f}")
    print(f"wrote {out} and {out.with_suffix('.csv')}")


def curves(arguments: Sequence[str]) -> None:
    """Draw training and test errors of runs in one picture (Figures 1, 4 and 6)."""
    values = absl_flags.FlagValues()
    _workdirs_flag(values)
    absl_flags.DEFINE_float("highest", None, "Upper end of the error axis in percent.", flag_values=values)
    absl_flags.DEFINE_string("out", "curves.png", "Annotation to write.", flag_values=values)
    if not flags.parsed(values, arguments, curves, positional=False):
        return
    out = _picture(values)
    if not values.workdir:
        raise InputError("workdir must be given: --workdir=...")

    from keras_resnet.classification.run import ClassifierRun, unique_names
    from keras_resnet.experiment import curves as learning_curves

    runs = [ClassifierRun.open(path) for path in values.workdir]
    records = {}
    for name, run in zip(unique_names(runs), runs, strict=True):
        if not run.metrics.is_file():
            raise InputError(f"workdir {str(run.path)!r} has no metrics.jsonl: it was not evaluated while training.")
        records[name] = learning_curves.read_metrics(run.metrics)
    learning_curves.plot(records, out, highest=values.highest)
    print(f"wrote {out}")


def costs(arguments: Sequence[str]) -> None:
    """Print layers, parameters and multiply-adds of networks, all or those named (Tables 1 and 6)."""
    values = absl_flags.FlagValues()
    absl_flags.DEFINE_bool("stages", False, "A row for each stage, as Table 1 has.", flag_values=values)
    absl_flags.DEFINE_integer("input_size", None, "Side of the input.", lower_bound=1, flag_values=values)
    absl_flags.DEFINE_integer("classes", None, "Number of classes.", lower_bound=1, flag_values=values)
    absl_flags.DEFINE_string("shortcut", None, "Shortcuts A, B or C.", flag_values=values)
    absl_flags.DEFINE_bool("stride_in_1x1", True, "Stride in the first 1x1; off for v1.5.", flag_values=values)
    networks = flags.parsed(values, arguments, costs)
    if networks is None:
        return

    from keras_resnet.models import costs as tables

    options = {name: values[name].value for name in ("input_size", "classes", "stride_in_1x1")}
    if values.shortcut is not None:
        check_choice("shortcut", values.shortcut, ("A", "B", "C"))
        options["shortcut"] = values.shortcut
    table = tables.stage_table if values.stages else tables.size_table
    print(table(tables.networks(networks), **options))


def reproduce(arguments: Sequence[str]) -> None:
    """Train the networks of table2, table6, figure6 or figure7 into --out, and write it beside the paper's numbers."""
    values = absl_flags.FlagValues()
    absl_flags.DEFINE_string(
        "out", None, "Folder for the runs and results; the same again goes on.", flag_values=values
    )
    help = "Some of the experiment's networks: resnet20,plainnet20. [all but resnet1202]"
    absl_flags.DEFINE_list("networks", [], help, flag_values=values)
    absl_flags.DEFINE_list("seeds", ["0"], "Seeds of the runs of each network.", flag_values=values)
    flags.define(values)
    names = flags.parsed(values, arguments, reproduce)
    if names is None:
        return
    if len(names) != 1:
        raise InputError(f"reproduce needs one of table2, table6, figure6, figure7; got {' '.join(names) or 'none'}.")
    for name, instead in (("model", "networks"), ("shortcut", "networks"), ("seed", "seeds")):
        if values[name].value is not None:
            raise InputError(f"{name} is the experiment's own; give --{instead} instead.")
    out, changes = flags.required(values, "out"), values.flag_values_dict()

    from keras_resnet.paper import reproduction

    text = reproduction.reproduce(
        names[0],
        out,
        steps=values.steps,
        networks=values.networks,
        seeds=_integers("seeds", values.seeds),
        changes=changes,
        command=shlex.join(["keras-resnet", "reproduce", *arguments]),
    )
    print(text)
    print(f"wrote {out}/{names[0]}.md, .json and .png")


def predict(arguments: Sequence[str]) -> None:
    """Print the best classes of each image file."""
    values = absl_flags.FlagValues()
    _source_flags(values)
    absl_flags.DEFINE_integer("top", 5, "How many classes.", lower_bound=1, flag_values=values)
    photos = flags.parsed(values, arguments, predict)
    if photos is None:
        return
    if not photos:
        raise InputError("predict needs at least one image file.")
    run = _opened(values)

    from keras_resnet.models.predictions import decode_predictions
    from keras_resnet.ops import codecs

    model, view = run.load(), run.photo_transform()
    names = run.dataset_info.class_names
    for photo in photos:
        scores = model.predict_on_batch(view.batch(codecs.read(photo, view.decode)[None]))
        best = decode_predictions(scores, min(values.top, len(names)), names)[0]
        print(f"{photo}: " + ", ".join(f"{name} {score:.3f}" for _, name, score in best))


def export(arguments: Sequence[str]) -> None:
    """Publish a run's network as a SavedModel for TensorFlow Serving, or write it as TFLite files with a report."""
    values = absl_flags.FlagValues()
    _source_flags(values)
    absl_flags.DEFINE_string("format", "saved_model", "saved_model or tflite.", flag_values=values)
    absl_flags.DEFINE_string(
        "out", None, "saved_model: folder of all versions; tflite: folder to make.", flag_values=values
    )
    own = {"saved_model": _saved_model_flags(values), "tflite": _tflite_flags(values)}
    if not flags.parsed(values, arguments, export, positional=False):
        return
    options = flags.of_format(values, own)
    out, run = flags.required(values, "out"), _opened(values)

    if values.format == "saved_model":
        from keras_resnet.serving import saved_model

        path = saved_model.export(run, out, **{"max_pixels": run.config.max_pixels, **options})
    else:
        from keras_resnet.data import sources
        from keras_resnet.serving import tflite

        report = options.pop("report", True)
        name, folder = options.pop("dataset", run.config.dataset), options.pop("data_dir", run.config.data_dir)
        if report or "int8" in options.get("variants", tflite.VARIANTS):
            options["dataset"] = sources.load(name, folder)
        if report:
            options.setdefault("report_split", run.config.eval_split)
        if options.get("batch_size") == 0:
            options["batch_size"] = None
        options.setdefault("calibration_split", run.config.train_split)
        path = tflite.export(run, out, **options)
        if report:
            print((path / "report.md").read_text(encoding="utf-8"))
    print(f"wrote {path}")


def _saved_model_flags(values: absl_flags.FlagValues) -> list[str]:
    integer = {"default": None, "lower_bound": 1, "flag_values": values}
    absl_flags.DEFINE_integer("version", help="Number of the version. [the next one]", **integer)
    absl_flags.DEFINE_integer("top", help="How many classes the outputs classes and scores have. [5]", **integer)
    absl_flags.DEFINE_integer("max_pixels", help="Larger images are refused. [the run's]", **integer)
    absl_flags.DEFINE_bool("fold", None, "Fold batch norms into convolutions. [True]", flag_values=values)
    absl_flags.DEFINE_string("dtype", None, "float32, float16 or bfloat16. [float32]", flag_values=values)
    return ["version", "top", "max_pixels", "fold", "dtype"]


def _tflite_flags(values: absl_flags.FlagValues) -> list[str]:
    text, integer = {"default": None, "flag_values": values}, {"default": None, "flag_values": values, "lower_bound": 0}
    absl_flags.DEFINE_list("variants", help="Some of float32,float16,dynamic,int8. [all]", **text)
    absl_flags.DEFINE_string("dataset", help="Images for calibration and report. [the run's]", **text)
    absl_flags.DEFINE_string("data_dir", help="Folder of prepared tensorflow-datasets. [the run's]", **text)
    absl_flags.DEFINE_string("calibration_split", help="Images that int8 is calibrated on. [train_split]", **text)
    absl_flags.DEFINE_integer("calibration_images", help="How many of them. [256]", **integer)
    absl_flags.DEFINE_bool("report", None, "Compare the files with the network on images. [True]", flag_values=values)
    absl_flags.DEFINE_string("report_split", help="Images of the report. [eval_split]", **text)
    absl_flags.DEFINE_integer("report_images", help="How many of them, 0 for all. [0]", **integer)
    absl_flags.DEFINE_integer("batch_size", help="Images in a call, 0 for any number. [1]", **integer)
    absl_flags.DEFINE_integer("threads", help="Threads of the interpreter in the report. [2]", **integer)
    return [
        *("variants", "dataset", "data_dir", "calibration_split", "calibration_images"),
        *("report", "report_split", "report_images", "batch_size", "threads"),
    ]


def convert(arguments: Sequence[str]) -> None:
    """Write a weights file, or a run's weights, as .weights.h5 or as .safetensors with torchvision's names: IN OUT."""
    values = absl_flags.FlagValues()
    absl_flags.DEFINE_string("model", None, "Network, for a file that does not say all of it.", flag_values=values)
    help = (
        "Bottlenecks have their stride in the first 1x1 (v1), not in the 3x3 (v1.5); for a file that does not say it."
    )
    absl_flags.DEFINE_bool("stride_in_1x1", None, help, flag_values=values)
    paths = flags.parsed(values, arguments, convert)
    if paths is None:
        return
    if len(paths) != 2:
        raise InputError(f"convert needs two arguments, IN and OUT; got {len(paths)}.")
    source, out = paths
    info = None

    from keras_resnet.classification import pretrained
    from keras_resnet.classification.run import ClassifierRun
    from keras_resnet.models.weights import convert as conversion
    from keras_resnet.models.weights.spec import ArchitectureSpec

    if os.path.isdir(source):
        run = ClassifierRun.open(source)
        source, info = run.weights, pretrained.run_info(run)
    model = conversion.convert(source, out, values.model, stride_in_1x1=values.stride_in_1x1, info=info)
    print(f"wrote {out}: {model.name}, {model.count_params():,} numbers")
    kind = ArchitectureSpec.of_model(model)
    if out.endswith(".safetensors") and kind and kind.block == "bottleneck" and kind.stride_in_1x1:
        print("its bottlenecks have their stride in the first 1x1; torchvision's networks have it in the 3x3")


def launch(arguments: Sequence[str]) -> int | None:
    """Run a verb as several workers on this machine, --workers=N VERB ..., and stop all when one fails."""
    values = absl_flags.FlagValues()
    absl_flags.DEFINE_integer("workers", 2, "How many processes.", lower_bound=1, flag_values=values)
    first = next((place for place, word in enumerate(arguments) if not word.startswith("-")), len(arguments))
    own, command = arguments[:first], arguments[first:]
    if not {*own} & {"--help", "-h", "-help"} and (not command or command[0] not in ("train", "evaluate")):
        got = repr(command[0]) if command else "nothing"
        raise InputError(f"launch wants its flags with =, and then train or evaluate with theirs; got {got}.")
    if not flags.parsed(values, own, launch, positional=False):
        return None

    from keras_resnet.distribute import launch as launcher

    return launcher.run([sys.executable, "-m", "keras_resnet.cli", *command], values.workers)


VERBS = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "convert": convert,
    "responses": responses,
    "curves": curves,
    "costs": costs,
    "reproduce": reproduce,
    "launch": launch,
}


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
        The exit code: 0, 1 for a user's mistake, 128 and the signal's number after SIGTERM (143) or Ctrl-C (130), 75
        where another worker is lost.
    """
    quiet()
    from keras_resnet.detection import commands

    verbs = verbs or (VERBS | commands.VERBS if commands.wanted(arguments) else VERBS)
    try:
        return verbs[verb](arguments) or 0
    except Stopped as stopped:
        print(f"keras-resnet {verb}: {stopped}", file=sys.stderr)
        return 128 + stopped.signal
    except PeerLost as lost:
        print(f"keras-resnet {verb}: {lost}", file=sys.stderr)
        return lost.code
    except (InputError, FloatingPointError) as error:
        print(f"keras-resnet {verb}: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        from keras_resnet.ops import graph_errors

        message = graph_errors.message_of(error)
        if message is None:
            raise
        print(f"keras-resnet {verb}: {message}", file=sys.stderr)
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
    code = run(arguments[0], arguments[1:])
    if code == PeerLost.code:
        # TensorFlow would take leave of the lost worker.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
