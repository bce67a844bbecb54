"""Run the main function of a script as commands are run: a user's mistake is one sentence, not a traceback."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable, Sequence

from absl import app

from keras_resnet.cli.main import quiet
from keras_resnet.errors import InputError


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Parse absl flags and call `main` with the remaining arguments; exit with 1 and a sentence for an `InputError`.

    Call it before TensorFlow is imported to keep its info messages off the terminal.
    """
    quiet()
    try:
        app.run(main)
    except InputError as error:
        sys.exit(f"{pathlib.Path(sys.argv[0]).stem}: {error}")
