"""The command `keras-resnet`: train, evaluate, predict, export, convert, launch, and the paper's plots and tables.

keras-resnet train --preset=cifar10_resnet20 --workdir=runs/r20
keras-resnet train --preset=voc07_resnet101 --workdir=runs/voc
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

import logging
import os
import pathlib
import shlex
import sys
from collections.abc import Sequence

from absl import logging as absl_logging

from keras_resnet.cli import flags
from keras_resnet.cli.convert import Convert
from keras_resnet.cli.costs import Costs
from keras_resnet.cli.curves import Curves
from keras_resnet.cli.launch import Launch
from keras_resnet.cli.reproduce import Reproduce
from keras_resnet.cli.responses import Responses
from keras_resnet.cli.train import Train
from keras_resnet.errors import InputError, PeerLost, Stopped, did_you_mean
from keras_resnet.experiment import tasks
from keras_resnet.experiment.config import Options, read_json
from keras_resnet.experiment.tasks import Invocation, Task, TaskFlags, Verb

TASK_VERBS = {
    "train": Train.summary(),
    "evaluate": "Print the errors of trained models on a data set; --out writes a report.",
    "predict": "Print what is in each image file.",
    "export": "Write a trained model as a SavedModel for TensorFlow Serving or as TFLite files.",
}
"""Verbs that each task implements -> help; the task is that of --task, --preset, --config or --workdir."""

VERBS: dict[str, type[Verb]] = {
    "convert": Convert,
    "responses": Responses,
    "curves": Curves,
    "costs": Costs,
    "reproduce": Reproduce,
    "launch": Launch,
}
"""The other verbs."""


def task_of(arguments: Sequence[str]) -> Task:
    """Return the task of a command line: that of --task, --preset, or the config.json of --config or --workdir.

    Raises:
        ValueError: there is no such task or preset, or a config.json cannot be read.
    """
    given = flags.parse_known(arguments, ("task", "preset", "config", "workdir"))
    if given.get("task"):
        return tasks.get(given["task"])
    if given.get("preset"):
        return tasks.of_preset(given["preset"])
    if given.get("config"):
        return tasks.get(tasks.name_of(read_json(given["config"])))
    if given.get("workdir"):
        file = pathlib.Path(given["workdir"].split(",")[0], "config.json")
        if file.exists():
            return tasks.get(tasks.name_of(read_json(file)))
    return next(iter(tasks.all_tasks().values()))


def run(verb: str, arguments: Sequence[str]) -> int:
    """Run one verb; a user's mistake is printed as one sentence.

    Args:
        verb: its name.
        arguments: its flags and files.

    Returns:
        The exit code: 0, 1 for a user's mistake, 128 plus the signal's number after SIGTERM (143) or Ctrl-C (130), 75
        if another worker is lost.
    """
    quiet()
    try:
        parsed = parse(verb, arguments)
        return parsed[0].run(parsed[1]) or 0 if parsed else 0
    except Stopped as stopped:
        print(f"keras-resnet {verb}: {stopped}", file=sys.stderr)
        return 128 + stopped.signal
    except PeerLost as lost:
        print(f"keras-resnet {verb}: {lost}", file=sys.stderr)
        return lost.code
    except (InputError, FloatingPointError) as error:
        print(f"keras-resnet {verb}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        reason = error.strerror or "it cannot be used"
        print(
            f"keras-resnet {verb}: {os.fspath(error.filename)!r} cannot be read or written: {reason}.", file=sys.stderr
        )
        return 1
    except Exception as error:
        message = _message_of(error)
        if message is None:
            raise
        print(f"keras-resnet {verb}: {message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"keras-resnet {verb}: interrupted", file=sys.stderr)
        return 130


def _message_of(error: Exception) -> str | None:
    """The message of an input error that a pipeline raised inside a TensorFlow graph."""
    if not type(error).__module__.startswith("tensorflow"):
        return None
    from keras_resnet.ops import graph_errors  # imports TensorFlow

    return graph_errors.message_of(error)


def _verb_of(name: str, task: Task | None) -> type[Verb]:
    if task is None:
        return VERBS[name]
    if name == "train":
        return Train
    if name not in task.verbs:
        verbs = ", ".join(["train", *task.verbs])
        raise InputError(f"{name} is not a verb of the task {task.name}; it has {verbs}.")
    return task.verbs[name]


def parse(name: str, arguments: Sequence[str]) -> tuple[Verb, Invocation] | None:
    """Parse the flags of a verb.

    Args:
        name: the verb.
        arguments: its flags and files.

    Returns:
        The verb with its flags, and what it is run with; None if help was requested, which is printed.

    Raises:
        ValueError: an unknown flag or task, or a value that is not allowed.
    """
    task = task_of(arguments) if name in TASK_VERBS else None
    verb = _verb_of(name, task)
    config = task.config if task and name == "train" else verb.CONFIG
    sources = [options for options in (TaskFlags if task else None, verb, config) if options]
    verb_arguments = arguments
    if verb is Launch:  # its flags end where the launched verb begins
        end = next((index for index, word in enumerate(arguments) if not word.startswith("-")), len(arguments))
        verb_arguments = arguments[:end]
    if flags.HELP & set(verb_arguments):
        print(help_of(name, verb, sources))
        return None
    given, files = flags.parse(arguments, sources, files_last=verb is Launch)
    if files and not verb.FILES:
        raise InputError(f"{name} takes flags only; got {files[0]!r}.")
    invocation = Invocation(
        command=shlex.join(["keras-resnet", name, *arguments]),
        files=files,
        given=frozenset(given) & set(verb.field_names()),
        task=task,
        config_flags={key: value for key, value in given.items() if config and key in config.field_names()},
    )
    return verb().override(given), invocation


def help_of(name: str, verb: type[Verb], options: Sequence[type[Options]]) -> str:
    """Return the help of a verb: its usage, its summary and its flags by topic."""
    usage = " ".join(part for part in (f"usage: keras-resnet {name} [flags]", verb.FILES) if part)
    parts = [usage, verb.summary(), flags.help_text(options)]
    if TaskFlags in options:
        others = " or ".join(f"--task={task}" for task in tasks.all_tasks())
        parts[1] += f"\nThe flags depend on the task, which {others} chooses."
    if name == "train":
        presets = "\n".join(
            flags.wrapped(f"{task.name}: {', '.join(task.presets)}") for task in tasks.all_tasks().values()
        )
        parts.append(f"presets:\n{presets}")
    return "\n\n".join(parts)


def quiet() -> None:
    """Keep TensorFlow's info messages off the terminal. Call it before TensorFlow is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    absl_logging.set_verbosity(absl_logging.WARNING)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console command; return its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    summaries = TASK_VERBS | {name: verb.summary() for name, verb in VERBS.items()}
    if not arguments or arguments[0] in (*flags.HELP, "help"):
        print(__doc__)
        for name, summary in summaries.items():
            print(f"  {name:10} {summary}")
        print("\nkeras-resnet VERB --help lists the flags of a verb.")
        return 0
    if arguments[0] not in summaries:
        hint = did_you_mean(arguments[0], summaries)
        print(
            f"keras-resnet: the verb must be one of {', '.join(summaries)}; got {arguments[0]!r}{hint}.",
            file=sys.stderr,
        )
        return 1
    code = run(arguments[0], arguments[1:])
    if code == PeerLost.code:
        # TensorFlow's own exit would wait for the lost worker.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
