"""The command `keras-resnet`: prepare and inspect data, train, evaluate, predict, export, publish; the paper's plots.

keras-resnet train --preset=cifar10_resnet20 --workdir=runs/r20
keras-resnet train --preset=voc07_resnet101 --workdir=runs/voc
keras-resnet inspect --data=photos
keras-resnet train --task=detection --data=animals --weights=imagenet --workdir=runs/animals
keras-resnet launch --workers=2 train --preset=cifar10_resnet20 --workdir=runs/r20
keras-resnet watch runs/r20
keras-resnet evaluate --workdir=runs/r20 --views=single,ten_crop --out=report
keras-resnet evaluate --weights=imagenet --model=resnet50 --dataset=folder:/data/val --views=multi_scale
keras-resnet predict --workdir=runs/r20 PHOTO...
keras-resnet predict --weights=imagenet --model=resnet50 PHOTO...
keras-resnet export --workdir=runs/r20 --format=saved_model --out=models/r20
keras-resnet convert resnet50-0676ba61.pth resnet50.weights.h5
keras-resnet publish runs/r20 published/resnet20
keras-resnet prepare --dataset=folder:photos --out=prepared/photos
keras-resnet responses --workdir=runs/r20,runs/plain20 --out=responses.png
keras-resnet curves --workdir=runs/r20,runs/plain20 --out=curves.png
keras-resnet costs --stages ResNet50 ResNet101
keras-resnet reproduce table6 --steps=6000 --out=reproduction
"""

from __future__ import annotations

import os
import pathlib
import shlex
import sys
from collections.abc import Collection, Sequence

from keras_resnet import __version__, files
from keras_resnet.cli import backend, flags
from keras_resnet.cli.convert import Convert
from keras_resnet.cli.costs import Costs
from keras_resnet.cli.curves import Curves
from keras_resnet.cli.exits import exit_code, handle_interrupts
from keras_resnet.cli.inspect import Inspect
from keras_resnet.cli.launch import Launch
from keras_resnet.cli.notices import quiet
from keras_resnet.cli.prepare import Prepare
from keras_resnet.cli.publish import Publish
from keras_resnet.cli.reproduce import Reproduce
from keras_resnet.cli.responses import Responses
from keras_resnet.cli.train import Train
from keras_resnet.cli.watch import Watch
from keras_resnet.errors import InputError, PeerLost, did_you_mean
from keras_resnet.experiment import synonyms, tasks
from keras_resnet.experiment.config import Options, read_json
from keras_resnet.experiment.tasks import Invocation, Task, TaskFlags, Verb

TASK_VERBS = {
    "train": Train.summary(),
    "evaluate": "Print the errors of trained models on a data set; --out writes a report.",
    "predict": "Print what is in each image file.",
    "export": "Write a trained model as a SavedModel for TensorFlow Serving or as a TFLite, ONNX or OpenVINO file.",
}
"""Verbs that each task implements -> help; the task is that of --task, --preset, --config or --workdir."""

VERBS: dict[str, type[Verb]] = {
    "inspect": Inspect,
    "prepare": Prepare,
    "convert": Convert,
    "publish": Publish,
    "responses": Responses,
    "curves": Curves,
    "costs": Costs,
    "reproduce": Reproduce,
    "launch": Launch,
    "watch": Watch,
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
        return tasks.get(tasks.name_of(read_json(files.expand(given["config"]))))
    if given.get("workdir"):
        file = pathlib.Path(files.expand(given["workdir"].split(",")[0]), "config.json")
        if file.exists():
            return tasks.get(tasks.name_of(read_json(file)))
    return next(iter(tasks.all_tasks().values()))


def run(verb: str, arguments: Sequence[str]) -> int:
    """Run one verb; a user's mistake is printed as one sentence.

    Args:
        verb: its name.
        arguments: its flags and files.

    Returns:
        The exit code; see `exits.exit_code`.
    """
    quiet()

    def call() -> int | None:
        parsed = parse(verb, arguments)
        if not parsed:
            return 0
        backend.check(verb)
        with backend.required(verb):
            return parsed[0].run(parsed[1])

    return exit_code(f"keras-resnet {verb}", call, arguments)


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
    given, paths = flags.parse(
        arguments, sources, files_last=verb is Launch, hint=lambda flag, known: _hint(flag, known, name, task)
    )
    if verb is not Launch:
        paths = [files.expand(path) for path in paths]
    if paths and not verb.FILES:
        hint = _as_flag(paths[0], sources) or _quoted(paths[0], arguments)
        raise InputError(f"{name} takes flags only; got {paths[0]!r}{hint}.")
    invocation = Invocation(
        command=shlex.join(["keras-resnet", name, *arguments]),
        files=paths,
        given=frozenset(given) & set(verb.field_names()),
        task=task,
        config_flags={key: value for key, value in given.items() if config and key in config.field_names()},
    )
    return verb().override(given), invocation


def _as_flag(word: str, options: Sequence[type[Options]]) -> str:
    """A hint if a word is a flag without its dashes, such as steps=3, or a preset."""
    flag, equals, _ = word.partition("=")
    if equals and any(flag in each.field_names() for each in options):
        return f" (did you mean '--{word}'?)"
    if any(word in task.presets for task in tasks.all_tasks().values()):
        return f" (did you mean '--preset={word}'?)"
    return ""


def _quoted(word: str, arguments: Sequence[str]) -> str:
    """A hint if a word and those around it are the name of a file with spaces, which the shell has split."""
    at = list(arguments).index(word) if word in arguments else 0
    for end in range(len(arguments), at, -1):
        joined = " ".join(arguments[max(at - 1, 0) : end])
        path = joined.partition("=")[2] if joined.startswith("-") else joined
        if at and os.path.exists(path):
            return f" (did you mean {shlex.quote(joined)}, in quotes?)"
    return ""


def _hint(flag: str, known: Collection[str], name: str, task: Task | None) -> str:
    """Say what to write instead of an unknown flag, as the end of a sentence.

    It may be a flag of another task, of another package, or of another verb.
    """
    every = tasks.all_tasks().values()
    verbs: dict[str, Sequence[type[Options]]] = {"train": [Train, *(each.config for each in every)]}
    verbs |= {verb: [each.verbs[verb] for each in every if verb in each.verbs] for verb in list(TASK_VERBS)[1:]}
    verbs |= {verb: [kind, *([kind.CONFIG] if kind.CONFIG else [])] for verb, kind in VERBS.items()}
    having = [verb for verb, options in verbs.items() if any(flag in each.field_names() for each in options)]
    if task and name in having:
        others = [each.name for each in every if each is not task and flag in _field_names(each, name)]
        return f"; it is a flag of --task={' and '.join(others)}, and the task here is {task.name}"
    if synonym := synonyms.hint(flag, known):
        return synonym
    return f"; it is a flag of keras-resnet {', '.join(having)}" if having else ""


def _field_names(task: Task, name: str) -> Sequence[str]:
    """The flags of a task's verb."""
    verb = task.config if name == "train" else task.verbs.get(name)
    return verb.field_names() if verb else ()


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console command; return its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] in (["--version"], ["version"], ["-V"]):
        print(f"keras-resnet {__version__}")
        return 0
    if arguments[:1] == ["help"] and len(arguments) > 1:
        arguments = [arguments[1], "--help"]
    summaries = TASK_VERBS | {name: verb.summary() for name, verb in VERBS.items()}
    if not arguments or arguments[0] in (*flags.HELP, "help"):
        print(__doc__)
        for name, summary in summaries.items():
            print(f"  {name:10} {summary}")
        print("\nkeras-resnet VERB --help lists the flags of a verb; keras-resnet --version prints the version.")
        return 0
    if arguments[0].lower() in summaries:
        arguments[0] = arguments[0].lower()
    if arguments[0] not in summaries:
        hint = did_you_mean(arguments[0], summaries)
        print(
            f"keras-resnet: the verb must be one of {', '.join(summaries)}; got {arguments[0]!r}{hint}.",
            file=sys.stderr,
        )
        return 1
    quiet(with_filter=True)
    handle_interrupts()
    code = run(arguments[0], arguments[1:])
    if code == PeerLost.code:
        # TensorFlow's own exit would wait for the lost worker.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
