"""How fast training, inference, exports and start-up are, beside what else could be used and what the machine can do.

    python benchmarks/performance.py --out=performance --data_dir=DIR --dataset=cifar10
    python benchmarks/performance.py --only=training,inference --contenders=keras_resnet,matrix
    python benchmarks/performance.py --device=gpu --out=gpu
    python benchmarks/performance.py --quick            # whether everything runs

Each contender has a process of its own, and they take turns; see `alternating`. A table has the median and the range
of the rounds, the ratio of the first row's median over each, and the range of the rounds' ratios; the same ratio by
processor time stands beside it, since on a machine that does other things too the clock says little. Written are
`performance.md`, `performance.json` with every turn, and `performance.png`.
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
flags.DEFINE_enum("device", "cpu", ["cpu", "gpu"], "What computes; a GPU trains and predicts only.")
flags.DEFINE_string("out", None, "Folder to write to. [none]")
flags.DEFINE_integer("rounds", 7, "How often each has its turn.", lower_bound=1)
flags.DEFINE_float("seconds", 6.0, "How long a turn goes on at least.", lower_bound=0.0)
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
    facts = {"command": command, **machine.describe()}
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        plan = subjects.EvalConfig(FLAGS.device, FLAGS.quick, FLAGS.dataset, FLAGS.data_dir, folder)
        for subject in [subject for kind in kinds for subject in subjects.KINDS[kind](plan)]:
            if table := measure(subject):
                tables.append(table)
                print(f"\n{table.markdown()}\n", flush=True)
                if out:
                    write(out, facts, tables)
    if not tables:
        raise app.UsageError(f"contenders must be parts of names of rows; got {', '.join(FLAGS.contenders)}.")


def measure(subject: subjects.Subject) -> results.Table | None:
    """Measure what the flags name of a subject; None where they name nothing of it."""
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
    found = alternate(contenders, rounds, seconds, note)
    return results.Table.of(subject.kind, subject.title, subject.unit, contenders, found)


def write(out: pathlib.Path, facts: dict, tables: list[results.Table]) -> None:
    """Write what is known so far: a long run that is cut off leaves what it had."""
    head = "".join(f"- {name}: {value}\n" for name, value in facts.items())
    text = "\n\n".join(table.markdown() for table in tables)
    (out / "performance.md").write_text(f"{head}\n{text}\n", encoding="utf-8")
    values = {**facts, "tables": [table.to_dict() for table in tables]}
    (out / "performance.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    results.plot(tables, out / "performance.png")


if __name__ == "__main__":
    app.run(main)
