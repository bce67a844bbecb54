"""Run the main function of a script as commands are run: a user's mistake is one sentence, not a traceback.

Import it before TensorFlow and Keras: importing it keeps TensorFlow's notices off the terminal, and lets Ctrl-C end the
script in one line from then on.
"""

from __future__ import annotations

import logging
import pathlib
import sys
from collections.abc import Callable, Sequence
from types import TracebackType

from absl import app, flags
from absl import logging as absl_logging

from keras_resnet import files
from keras_resnet.cli.exits import exit_code, handle_interrupts, open_standard_streams
from keras_resnet.cli.notices import quiet


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Parse absl flags, expand `~` and `$HOME` in them, call `main` with the other arguments, and exit."""

    def call(arguments: Sequence[str]) -> None:
        def expanded() -> None:
            for flag in flags.FLAGS.flags_by_module_dict().get(sys.argv[0], []):
                if isinstance(flag.value, str):
                    flag.value = files.expand(flag.value)
            main([arguments[0], *map(files.expand, arguments[1:])])

        absl_logging.get_absl_handler().setFormatter(logging.Formatter())  # as the command writes warnings
        sys.exit(exit_code(_program(), expanded, sys.argv[1:]))

    app.run(call)


def _program() -> str:
    """The name of the script."""
    return pathlib.Path(sys.argv[0]).stem


def _excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print Ctrl-C while the script's modules are imported as one line."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"{_program()}: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


open_standard_streams()
quiet(with_filter=True)
handle_interrupts()
sys.excepthook = _excepthook
