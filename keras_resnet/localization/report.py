"""The report of an evaluation: tables, the outcome of each image, and pictures of the worst and the best ones."""

from __future__ import annotations

import csv
import json
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from keras_resnet import files
from keras_resnet.data.transforms import WholeImageTransform
from keras_resnet.errors import counted
from keras_resnet.evaluation.report import markdown_table
from keras_resnet.localization import page, pictures
from keras_resnet.localization.data.examples import Example
from keras_resnet.localization.evaluate import Evaluation
from keras_resnet.ops import codecs


def table(evaluation: Evaluation) -> str:
    """Return a Markdown table of the errors, and one of those of a box at the center of each image."""
    return "\n\n".join([evaluation.error.result().table(), _baseline(evaluation)])


def _baseline(evaluation: Evaluation) -> str:
    rows = [
        (name.replace("_", " "), f"{error:.2f}")
        for name, (error, _) in evaluation.baseline.result().errors().items()
        if "localization" in name or name == "true_class_error"
        if not math.isnan(error)
    ]
    return markdown_table(("a box of half the area at the center",), ("%",), rows)


def write(
    out: str | os.PathLike,
    evaluation: Evaluation,
    examples: Sequence[Example],
    class_names: Sequence[str],
    transform: WholeImageTransform,
    details: Mapping[str, Any],
    *,
    pictures: int = 8,
) -> None:
    """Write `index.html`, `results.json`, `results.md`, `images.csv` and the folder `pictures`.

    Args:
        out: folder to create; it must not exist, and appears when it is complete.
        evaluation: the evaluation of a split.
        examples: the images of the split.
        class_names: names of the classes.
        transform: decodes the images.
        details: what else the files state about the evaluation.
        pictures: number of the worst and of the best images to draw, by the IoU of the box of the true class.

    Raises:
        ValueError: `out` exists or cannot be written.
    """
    result = evaluation.error.result()
    order = sorted(range(len(examples)), key=lambda index: (result.outcomes[index].iou or 0.0, index))
    worst = order[:pictures]
    best = [index for index in reversed(order) if index not in worst][:pictures]
    with files.new_folder(out) as folder:
        (folder / "pictures").mkdir()
        sections = []
        for title, indices in (("Worst images", worst), ("Best images", best)):
            rows = []
            for rank, index in enumerate(indices, 1):
                path = _draw(folder, title, rank, evaluation, examples, class_names, transform, index)
                rows.append((str(examples[index].id), f"![{index}]({path})", f"{result.outcomes[index].iou or 0:.2f}"))
            if rows:
                sections += [f"## {title}", markdown_table(("image", "picture"), ("IoU",), rows)]
        with open(folder / "images.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "class", "iou", "rank", "place", "top", "left", "bottom", "right", "score"])
            for example, outcome, found in zip(examples, result.outcomes, evaluation.predictions, strict=True):
                box = [f"{value:.1f}" for value in found.boxes[0]]
                iou = "" if outcome.iou is None else f"{outcome.iou:.4f}"
                score = f"{found.scores[0]:.4f}"
                name = class_names[example.label]
                writer.writerow([example.id, name, iou, outcome.rank, outcome.place, *box, score])
        values = {**details, **result.to_dict(), "center_box": evaluation.baseline.result().to_dict()}
        (folder / "results.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        parts = [
            "# Evaluation",
            "\n".join(f"- {name}: {value}" for name, value in details.items()),
            f"{counted(len(examples), 'image')}; a box is right if its IoU with a true box is at least "
            f"{result.iou_thresh}.",
            table(evaluation),
            "The outcome of each image, with the box of its true class, is in [images.csv](images.csv).",
            *sections,
        ]
        (folder / "results.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        title = f"Localization: {details.get('dataset', '')} {details.get('split', '')}".rstrip(": ")
        page.write(folder, title, evaluation, examples, class_names, transform, details)


def _draw(
    folder: pathlib.Path,
    title: str,
    rank: int,
    evaluation: Evaluation,
    examples: Sequence[Example],
    class_names: Sequence[str],
    transform: WholeImageTransform,
    index: int,
) -> str:
    """Write the picture of an image and return its path in the folder."""
    example, found = examples[index], evaluation.predictions[index]
    name = re.sub(r"[^\w.-]+", "_", str(example.id))
    path = f"pictures/{title.split()[0].lower()}_{rank}_{name}.png"
    pixels = codecs.read(example.path, transform.decode).numpy()
    parts = found.classes[:1], found.boxes[:1], found.scores[:1]
    pictures.draw_outcome(pixels, example.label, example.boxes, *parts, class_names).save(folder / path)
    return path
