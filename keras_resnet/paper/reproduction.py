"""Rerun the paper's experiments: train their networks and compare the results with the paper's."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence

from keras_resnet import files
from keras_resnet.classification import evaluate, train
from keras_resnet.classification.config import PRESETS, ClassifierConfig
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.distribute.environment import environment
from keras_resnet.errors import InputError, check_choice, counted
from keras_resnet.evaluation.report import markdown_table
from keras_resnet.experiment import curves
from keras_resnet.models import costs
from keras_resnet.models.predictions import imagenet_classes
from keras_resnet.models.weights.published import CIFAR10_CLASSES
from keras_resnet.paper import responses
from keras_resnet.training import loop


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A table or figure of the paper.

    Attributes:
        title: what it shows, with the place of the data set's name.
        presets: the networks with their recipes, in the paper's order.
        paper: network -> the paper's test error in percent, where it states one.
        views: the test protocol, of `evaluation.protocols`.
        on_demand: networks that are only trained if they are named, because they are expensive.
    """

    title: str
    presets: tuple[str, ...]
    paper: Mapping[str, float]
    views: str = "single"
    on_demand: tuple[str, ...] = ()


def _cifar10(*networks: str) -> tuple[str, ...]:
    return tuple(f"cifar10_{network}" for network in networks)


_RESNETS = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202")
_PLAIN = ("plainnet20", "plainnet32", "plainnet44", "plainnet56")
_TABLE_6 = dict(zip(_RESNETS, (8.75, 7.51, 7.17, 6.97, 6.43, 7.93), strict=True))

_CLASSES = (sorted(CIFAR10_CLASSES), sorted(wnid for wnid, _ in imagenet_classes()))
"""Class names of CIFAR-10 and ImageNet."""

_SCHEDULE = {
    *("dataset", "train_split", "eval_split", "steps", "batch_size", "optimizer", "learning_rate", "schedule"),
    *("decay_steps", "warmup_steps", "precision"),
}

EXPERIMENTS = {
    "table2": Experiment(
        "Table 2: plain and residual networks on {dataset}, ten crops",
        tuple(f"imagenet_{network}" for network in ("plainnet18", "resnet18_a", "plainnet34", "resnet34_a")),
        {"plainnet18": 27.94, "resnet18_a": 27.88, "plainnet34": 28.54, "resnet34_a": 25.03},
        views="ten_crop",
    ),
    "table6": Experiment(
        "Table 6: residual networks on {dataset}", _cifar10(*_RESNETS), _TABLE_6, on_demand=("resnet1202",)
    ),
    "figure6": Experiment(
        "Figure 6: plain and residual networks on {dataset} while they train",
        _cifar10(*_PLAIN, *_RESNETS),
        _TABLE_6,
        on_demand=("resnet1202",),
    ),
    "figure7": Experiment(
        "Figure 7: layer responses on {dataset}",
        _cifar10("plainnet20", "plainnet56", "resnet20", "resnet56", "resnet110"),
        _TABLE_6,
    ),
}


def reproduce(
    name: str,
    out: str | os.PathLike,
    *,
    steps: int | None = None,
    networks: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    changes: Mapping[str, object] | None = None,
    command: str = "",
) -> str:
    """Train the networks of an experiment, and write `NAME.md`, `NAME.json` and `NAME.png`.

    Args:
        name: a key of `EXPERIMENTS`.
        out: folder; the runs are in `out/runs`, which experiments share. Calling it again resumes them.
        steps: training steps of each network; decay steps are scaled in proportion. By default the paper's.
        networks: names such as "resnet20"; by default all networks of the experiment but those on demand.
        seeds: seeds of the runs of each network.
        changes: other fields of the configurations to change, such as the data set.
        command: the command line, recorded in the results.

    Returns:
        The results as Markdown.

    Raises:
        ValueError: an unknown experiment or network, an invalid configuration, or a run in `out` with a different one.
        errors.Stopped: a signal stopped a run; its checkpoint is saved.
    """
    check_choice("experiment", name, EXPERIMENTS)
    experiment = EXPERIMENTS[name]
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds must be distinct and at least one; got {list(seeds)}.")
    configs = {
        network: [
            scaled(PRESETS[preset], steps).override({**(changes or {}), "steps": None, "seed": seed})
            for seed in sorted(seeds)
        ]
        for network, preset in _chosen(experiment, networks).items()
    }
    out = pathlib.Path(out)
    runs: dict[str, list[ClassifierRun]] = {}
    count = sum(len(of_seeds) for of_seeds in configs.values())
    for network, of_seeds in configs.items():
        runs[network] = []
        for config in of_seeds:
            done = sum(len(of_seeds) for of_seeds in runs.values())
            print(f"{name}: {network}, seed {config.seed}, run {done + 1} of {count}", flush=True)
            runs[network].append(_trained(config, out / "runs" / f"{network}_seed{config.seed}"))
    experiment = _on(experiment, [run for of_seeds in runs.values() for run in of_seeds])
    if name == "figure7":
        lines, results = _responses(runs, out)
    else:
        lines, results = _errors(experiment, runs)
        curves.plot_panels(_panels(runs), out / f"{name}.png", highest=_highest(runs))
    recipes = {network: _recipe(of_seeds[0]) for network, of_seeds in configs.items()}
    sentences = dict.fromkeys(_sentence(of_seeds[0]) for of_seeds in configs.values())
    details = {"command": command, "date": datetime.date.today().isoformat(), **environment()}
    details = {key: value for key, value in details.items() if value}
    values = {"title": experiment.title, **details, "recipes": recipes, "results": results}
    text = "\n\n".join(
        [
            f"# {experiment.title}",
            "\n".join(f"- {key}: {value}" for key, value in details.items()),
            "\n".join(f"- {line}" for line in sentences),
            "\n".join(lines),
            f"![{experiment.title}]({name}.png)",
        ]
    )
    files.write(out / f"{name}.json", json.dumps(values, indent=2) + "\n")
    files.write(out / f"{name}.md", text + "\n")
    return text


PAPER_DATASETS = {"cifar10": "CIFAR-10", "imagenet2012": "ImageNet"}
"""Data set of the presets -> its name in the paper."""


def _on(experiment: Experiment, runs: Sequence[ClassifierRun]) -> Experiment:
    """The experiment with its data set in the title, and without the paper's numbers if that is not the paper's.

    A data set with the classes of the paper's counts as a copy of it.
    """
    paper = PRESETS[experiment.presets[0]].dataset
    if all(run.config.dataset == paper for run in runs):
        return dataclasses.replace(experiment, title=experiment.title.format(dataset=PAPER_DATASETS[paper]))
    names = " and ".join(dict.fromkeys(run.dataset_info.name for run in runs))
    copies = all(sorted(run.dataset_info.class_names) in _CLASSES for run in runs)
    title = experiment.title.format(dataset=names)
    return dataclasses.replace(experiment, title=title, paper=experiment.paper if copies else {})


def scaled(config: ClassifierConfig, steps: int | None) -> ClassifierConfig:
    """Return the configuration for another number of steps, with decay steps scaled in proportion.

    The run is evaluated at least 20 times.
    """
    if steps is None:
        return config
    decay = sorted({round(step * steps / config.steps) for step in config.decay_steps} - {0})
    often = min(config.eval_steps, max(steps // 20, 1))
    return dataclasses.replace(config, steps=steps, decay_steps=tuple(decay), eval_steps=often)


def _chosen(experiment: Experiment, networks: Sequence[str]) -> dict[str, str]:
    """Network -> preset, of the networks to train."""
    known = {preset.split("_", 1)[1]: preset for preset in experiment.presets}
    for network in networks:
        check_choice("networks", network, known)
    selected = networks or [network for network in known if network not in experiment.on_demand]
    return {network: preset for network, preset in known.items() if network in selected}


def _trained(config: ClassifierConfig, path: pathlib.Path) -> ClassifierRun:
    """The finished run, trained now or by an earlier call."""
    if (path / "config.json").is_file():
        run = ClassifierRun.open(path)
        if run.config == config and run.metrics.is_file() and run.weights.is_file():
            records = curves.read_metrics(run.metrics)
            if records and (records[-1]["step"] == config.steps or run.early_stop.exists()):
                return run
    return train.train(config, path)


def _errors(experiment: Experiment, runs: Mapping[str, Sequence[ClassifierRun]]) -> tuple[list[str], list[dict]]:
    """The error table, as lines and as values."""
    columns = [
        "layers",
        "parameters",
        "training error (%)",
        "test error (%)",
        *(["paper (%)"] * bool(experiment.paper)),
    ]
    table = []
    results = []
    for network, of_seeds in runs.items():
        last = [curves.read_metrics(run.metrics)[-1] for run in of_seeds]
        training = [record["top1_error"] for record in last]
        test = [record["val_top1_error"] for record in last]
        if experiment.views != "single":
            test = [_test_error(run, experiment.views) for run in of_seeds]
        cost = _cost(of_seeds[0])
        paper = experiment.paper.get(network)
        cells = [network, str(cost["layers"]), f"{cost['parameters']:,}", _spread(training), _spread(test)]
        table.append([*cells, *(["" if paper is None else f"{paper:.2f}"] * bool(experiment.paper))])
        seeds = [run.config.seed for run in of_seeds]
        results.append(
            {"network": network, "layers": cost["layers"], "parameters": cost["parameters"], "seeds": seeds}
            | {"training_error": training, "test_error": test, "paper": paper}
        )
    views = "of a single view after the last step"
    if experiment.views != "single":
        views = f"of {experiment.views}, with the weights of the lowest single-view error"
    return [
        markdown_table(("network",), columns, table),
        "",
        f"Test errors are {views}; training errors are means since the previous evaluation.",
    ], results


def _test_error(run: ClassifierRun, views: str) -> float:
    config = evaluate.EvalConfig(views=(views,))
    return evaluate.evaluate([run], config, split=run.config.eval_split).rows[0].result.top1_error


def _cost(run: ClassifierRun) -> dict:
    (architecture,) = costs.networks([run.config.model])
    options = {"shortcut": run.config.shortcut} if run.config.shortcut else {}
    return costs.costs(architecture, classes=len(run.dataset_info.class_names), **options)


def _spread(errors: Sequence[float]) -> str:
    """An error, or the mean, standard deviation and best of several, as in Table 6."""
    if len(errors) == 1:
        return f"{errors[0]:.2f}"
    return f"{statistics.mean(errors):.2f} ± {statistics.stdev(errors):.2f} (best {min(errors):.2f})"


def _responses(runs: Mapping[str, Sequence[ClassifierRun]], out: pathlib.Path) -> tuple[list[str], list[dict]]:
    """Plot the layer responses of the first seed's networks; return the table as lines and as values."""
    sources = [of_seeds[0] for of_seeds in runs.values()]
    measured = responses.of_networks(sources, None, None, sources[0].config.eval_split, 256)
    responses.plot(measured, out / "figure7.png")
    responses.write_csv(measured, out / "figure7.csv")
    lines = ["| network | 3x3 layers | mean standard deviation |", "|---|---:|---:|"]
    results = []
    for network in measured:
        lines.append(f"| {network.name} | {len(network.layers)} | {network.deviations.mean():.3f} |")
        results.append(
            {
                "network": network.name,
                "layers": list(network.layers),
                "deviations": [round(float(deviation), 6) for deviation in network.deviations],
            }
        )
    return [*lines, "", "Each layer's deviation is in figure7.csv."], results


def _panels(runs: Mapping[str, Sequence[ClassifierRun]]) -> dict[str, dict[str, list[dict]]]:
    """The curves of the first seed's runs: a panel of plain networks and a panel of residual networks."""
    panels: dict[str, dict[str, list[dict]]] = {}
    for network, of_seeds in runs.items():
        title = "plain networks" if network.startswith("plainnet") else "residual networks"
        panels.setdefault(title, {})[network] = curves.read_metrics(of_seeds[0].metrics)
    return panels


def _highest(runs: Mapping[str, Sequence[ClassifierRun]]) -> float | None:
    """Upper end of the error axis: low enough to see the ends of the curves, like 20 % in the paper."""
    last = [curves.read_metrics(run.metrics)[-1] for of_seeds in runs.values() for run in of_seeds]
    return min(2.5 * max(max(record["top1_error"], record["val_top1_error"]) for record in last), 100.0) or None


def _recipe(config: ClassifierConfig) -> dict:
    """The recipe of a network: the whole schedule, and every other field that is not the default."""
    values, default = dataclasses.asdict(config), dataclasses.asdict(ClassifierConfig())
    changed = {name for name in values if values[name] != default[name]} - {"model", "seed", "data_dir"}
    return {name: value for name, value in values.items() if name in _SCHEDULE | changed}


def _sentence(config: ClassifierConfig) -> str:
    rate = loop.describe_rate(config, config.warmup_error, config.patience)
    return (
        f"{config.dataset} {config.train_split}, tested on {config.eval_split}: {counted(config.steps, 'step')} of "
        f"{counted(config.batch_size, 'image')}, {rate}; {config.precision}"
    )
