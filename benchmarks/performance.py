"""Measure training, inference, exports and start-up, compared with other libraries and the machine's limit.

    python benchmarks/performance.py --out=performance --data_dir=DIR --dataset=cifar10
    python benchmarks/performance.py --only=training,inference --contenders=keras_resnet,matrix
    python benchmarks/performance.py --device=gpu --out=gpu
    python benchmarks/performance.py --quick            # a smoke run

Each contender has a separate process, and they take turns; see `alternating`. A table has the median and range of the
rounds, the ratio of the first row's median to each row's median with the range of the per-round ratios, and the same
ratio by processor time, because wall time says little on a busy machine. Writes `performance.md`, `performance.json`
with all measurements, and `performance.png`.
"""

import json
import pathlib
import shlex
import sys
import tempfile

from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from benchmarks import machine, results, subjects
from benchmarks.alternating import alternate

FLAGS = flags.FLAGS
flags.DEFINE_list("only", [], f"Some of {', '.join(subjects.KINDS)}. [all]")
flags.DEFINE_list("contenders", [], "Only rows whose names contain one of these. [all]")
flags.DEFINE_enum("device", "cpu", ["cpu", "gpu"], "Device; training, inference and backends only on a GPU.")
flags.DEFINE_string("out", None, "Folder to write to. [none]")
flags.DEFINE_integer("rounds", 7, "Turns of each contender.", lower_bound=1)
flags.DEFINE_float("seconds", 6.0, "Least seconds of a turn.", lower_bound=0.0)
flags.DEFINE_string("dataset", "synthetic:32x32x10", "Data set of the whole run, with images of 32 pixels.")
flags.DEFINE_string("data_dir", None, "Folder of prepared tensorflow-datasets.")
flags.DEFINE_bool("quick", False, "One round of tiny images.")


def main(_):
    kinds = FLAGS.only or (subjects.ON_GPU if FLAGS.device == "gpu" else subjects.KINDS)
    if unknown := sorted(set(kinds) - set(subjects.KINDS)):
        raise app.UsageError(f"only must be some of {', '.join(subjects.KINDS)}; got {', '.join(unknown)}.")
    out = pathlib.Path(FLAGS.out) if FLAGS.out else None
    if out:
        out.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", "benchmarks/performance.py", *sys.argv[1:]])
    about = {"command": command, **machine.describe()}
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        settings = subjects.Settings(FLAGS.device, FLAGS.quick, FLAGS.dataset, FLAGS.data_dir, folder)
        for subject in [subject for kind in kinds for subject in subjects.KINDS[kind](settings)]:
            if table := measure(subject):
                tables.append(table)
                print(f"\n{table.markdown()}\n", flush=True)
                if out:
                    write(out, about, tables)
    if not tables:
        raise app.UsageError(f"contenders must be parts of row names; got {', '.join(FLAGS.contenders)}.")


def measure(subject: subjects.Subject) -> results.Table | None:
    """Measure the contenders of a subject that the flags select; return None if they select none."""
    contenders = [
        contender
        for contender in subject.contenders
        if not FLAGS.contenders or any(part in contender.name for part in FLAGS.contenders)
    ]
    if not contenders:
        return None

    def note(line: str) -> None:
        print(f"{subject.title}: {line}", file=sys.stderr, flush=True)

    rounds, seconds = (1, 0.0) if FLAGS.quick else (min(subject.rounds or FLAGS.rounds, FLAGS.rounds), FLAGS.seconds)
    if subject.prepare:
        alternate([subject.prepare], 1, 0.0, note)
    turns = alternate(contenders, rounds, seconds, note)
    return results.Table.of(subject.kind, subject.title, subject.unit, contenders, turns)


def write(out: pathlib.Path, about: dict, tables: list[results.Table]) -> None:
    """Write the tables so far, so that an interrupted run keeps its results."""
    head = "".join(f"- {name}: {value}\n" for name, value in about.items())
    text = "\n\n".join(table.markdown() for table in tables)
    (out / "performance.md").write_text(f"{head}\n{text}\n", encoding="utf-8")
    values = {**about, "tables": [table.to_dict() for table in tables]}
    (out / "performance.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    results.plot(tables, out / "performance.png")


if __name__ == "__main__":
    app.run(main)
