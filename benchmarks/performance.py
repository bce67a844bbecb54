"""Measure training, inference, exports and start-up, compared with other libraries and the machine's limit.

    python benchmarks/performance.py --out=performance --data_dir=DIR --dataset=cifar10
    python benchmarks/performance.py --only=training,inference --contenders=keras_resnet,matrix
    python benchmarks/performance.py --quick            # a smoke run
    python benchmarks/performance.py --only=guard --rounds=3 --seconds=0.5  # fails if something is twice as slow
    python benchmarks/performance.py --device=gpu --minutes=25 --rounds=3 --seconds=2 --out=gpu
    python benchmarks/performance.py --only=products,outputs,gpu_training,gpu_inference --quick  # the same on a CPU

Each contender has a separate process, and they take turns; see `alternating`. On a GPU, whose memory they would share,
each one is measured alone, those with the lowest priority number of all tables first. TensorFlow is not needed there:
`pip install absl-py keras matplotlib timm torch torchvision "jax[cuda13]"`.

A table has the median and range of the rounds, the ratio of the first row's median to each row's median with the range
of the per-round ratios, and the same ratio by processor time, because wall time says little on a busy machine. Writes
`performance.md`, `performance.json` with all measurements, and, if matplotlib is installed, `performance.png`, after
each table and, on a GPU, after each contender.
"""

import dataclasses
import importlib.util
import json
import pathlib
import shlex
import sys
import tempfile
import time

from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from benchmarks import machine, results, subjects
from benchmarks.alternating import Contender, Turns, alternate

FLAGS = flags.FLAGS
flags.DEFINE_list("only", [], f"Some of {', '.join(subjects.KINDS)}. [all]")
flags.DEFINE_list("contenders", [], "Only rows whose names contain one of these. [all]")
flags.DEFINE_list("tables", [], "Only tables whose titles contain one of these. [all]")
flags.DEFINE_enum("device", "cpu", ["cpu", "gpu"], f"Device; on a GPU only {', '.join(subjects.ON_GPU)}.")
flags.DEFINE_float("minutes", None, "Time limit; a contender that it leaves out has a row that says so. [none]")
flags.DEFINE_string("out", None, "Folder to write to. [none]")
flags.DEFINE_integer("rounds", 7, "Turns of each contender.", lower_bound=1)
flags.DEFINE_float("seconds", 6.0, "Least seconds of a turn.", lower_bound=0.0)
flags.DEFINE_string("dataset", "synthetic:32x32x10", "Data set of the whole run, with images of 32 pixels.")
flags.DEFINE_string("data_dir", None, "Folder of prepared tensorflow-datasets.")
flags.DEFINE_bool("quick", False, "One round of tiny images.")


def main(_):
    on_gpu = FLAGS.device == "gpu"
    allowed = subjects.ON_GPU if on_gpu else tuple(subjects.KINDS)
    kinds = FLAGS.only or [kind for kind in allowed if on_gpu or kind not in subjects.ON_GPU]
    if unknown := sorted(set(kinds) - set(allowed)):
        raise app.UsageError(f"only must be some of {', '.join(allowed)}; got {', '.join(unknown)}.")
    end = time.monotonic() + 60 * FLAGS.minutes if FLAGS.minutes else None
    out = pathlib.Path(FLAGS.out) if FLAGS.out else None
    if out:
        out.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", "benchmarks/performance.py", *sys.argv[1:]])
    about = {"command": command, **machine.describe()}
    if on_gpu and "GPU" not in about:
        raise app.UsageError("device must be cpu without an NVIDIA GPU; nvidia-smi finds none.")
    with tempfile.TemporaryDirectory() as folder:
        settings = subjects.Settings(FLAGS.device, FLAGS.quick, FLAGS.dataset, FLAGS.data_dir, folder)
        chosen = [select(subject) for kind in kinds for subject in subjects.KINDS[kind](settings)]
        chosen = [subject for subject in chosen if subject.contenders]
        if not chosen:
            raise app.UsageError(
                f"contenders and tables must be parts of the names of rows and titles; "
                f"got {', '.join([*FLAGS.contenders, *FLAGS.tables])}."
            )
        found = {subject.title: {} for subject in chosen}
        for subject, group in in_order(chosen):
            found[subject.title].update(measure(subject, group, end))
            tables = tables_of(chosen, found)
            if len(found[subject.title]) == len(subject.contenders):
                print(f"\n{tables[subject.title].markdown()}\n", flush=True)
            if out:
                write(out, about, list(tables.values()))
    slow = [line for subject in chosen for line in tables[subject.title].too_slow(subject.expected)]
    if slow and not FLAGS.quick:
        sys.exit("\n".join(slow))


def select(subject: subjects.Subject) -> subjects.Subject:
    """Return a subject with the contenders that the flags select, which may be none."""
    contenders = [
        contender
        for contender in subject.contenders
        if not FLAGS.contenders or any(part in contender.name for part in FLAGS.contenders)
    ]
    if FLAGS.tables and not any(part in subject.title for part in FLAGS.tables):
        contenders = []
    return dataclasses.replace(subject, contenders=contenders)


def in_order(chosen: list[subjects.Subject]) -> list[tuple[subjects.Subject, list[Contender]]]:
    """Return the contenders of each subject that are measured together, the lowest priorities first."""
    groups = []
    for subject in chosen:
        together = [list(subject.contenders)] if subject.together else [[one] for one in subject.contenders]
        groups += [(subject, group) for group in together]
    return sorted(groups, key=lambda pair: 0 if pair[0].together else pair[1][0].priority)


def measure(subject: subjects.Subject, contenders: list[Contender], end: float | None) -> dict[str, Turns]:
    """Measure some contenders of a subject; return name -> measurements."""

    def note(line: str) -> None:
        print(f"{subject.title}: {line}", file=sys.stderr, flush=True)

    rounds, seconds = (1, 0.0) if FLAGS.quick else (min(subject.rounds or FLAGS.rounds, FLAGS.rounds), FLAGS.seconds)
    deadline = end
    if end and not subject.together:
        # A contender that hangs must not use up the time of the others.
        deadline = min(end, time.monotonic() + 60 + 3 * contenders[0].planned + 5 * rounds * seconds)
    if subject.prepare:
        alternate([subject.prepare], 1, 0.0, note)
    return alternate(contenders, rounds, seconds, note, deadline)


def tables_of(chosen: list[subjects.Subject], found: dict[str, dict[str, Turns]]) -> dict[str, results.Table]:
    """Return title -> table of what has been measured so far."""
    products = {}
    for subject in chosen:
        if subject.kind == "products":
            products = results.limits(subject.contenders, found[subject.title])
    tables = {}
    for subject in chosen:
        rows = [contender for contender in subject.contenders if contender.name in found[subject.title]]
        if rows:
            values = (rows, found[subject.title], products)
            tables[subject.title] = results.Table.of(subject.kind, subject.title, subject.unit, *values)
    return tables


def write(out: pathlib.Path, about: dict, tables: list[results.Table]) -> None:
    """Write the tables so far, so that an interrupted run keeps its results."""
    head = "".join(f"- {name}: {value}\n" for name, value in about.items())
    text = "\n\n".join(table.markdown() for table in tables)
    (out / "performance.md").write_text(f"{head}\n{text}\n", encoding="utf-8")
    values = {**about, "tables": [table.to_dict() for table in tables]}
    (out / "performance.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    if importlib.util.find_spec("matplotlib"):
        results.plot(tables, out / "performance.png")


if __name__ == "__main__":
    app.run(main)
