"""The weights that are part of this package: a folder for each, `weights/zoo/{network}_{name}`.

Nothing here imports Keras, so that the command line can check names at once; the cards are read by
`models.weights.published`.
"""

from __future__ import annotations

import pathlib

FOLDER = pathlib.Path(__file__).parent / "weights" / "zoo"


def folders() -> list[pathlib.Path]:
    """Return the folders of weights, those of small networks first."""
    return sorted(FOLDER.glob("*_*"), key=lambda path: (len(path.name.split("_")[0]), path.name))


def names() -> list[str]:
    """Return the names of weights, such as "cifar10", each once."""
    return list(dict.fromkeys(path.name.split("_", 1)[1] for path in folders()))
