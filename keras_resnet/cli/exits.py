"""How commands and scripts end: the exit code, and one sentence for a user's mistake, a signal or a lost worker."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from keras_resnet.errors import InputError, PeerLost, Stopped

interrupted = threading.Event()
"""Set by Ctrl-C: libraries such as OpenVINO turn `KeyboardInterrupt` into an exception of their own."""


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle Ctrl-C: raise `KeyboardInterrupt`, or end at once while TensorFlow or Keras are being imported.

    Their import runs destructors, in which Python ignores exceptions: the signal would be lost. Nothing has been
    written by then.
    """
    modules = (sys.modules.get(name) for name in ("tensorflow", "keras"))
    if any(getattr(getattr(module, "__spec__", None), "_initializing", False) for module in modules):
        print(f"{pathlib.Path(sys.argv[0]).stem.replace('__main__', 'keras-resnet')}: interrupted", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + number)
    interrupted.set()
    raise KeyboardInterrupt


def handle_interrupts() -> None:
    """Let `interrupt` handle Ctrl-C, unless something else does: jobs in the background ignore it."""
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)


def exit_code(program: str, call: Callable[[], int | None], arguments: Sequence[str] = ()) -> int:
    """Call a function; print a user's mistake, an interruption or a lost worker as one sentence.

    Args:
        program: what the sentence begins with, such as "keras-resnet train".
        call: the function; it returns an exit code, None for 0.
        arguments: the command line, to name the flag of a file that cannot be read or written.

    Returns:
        0 or the code of the function; 1 for a user's mistake, 128 plus the signal's number after SIGTERM (143) or
        Ctrl-C (130) and if the reader of the output has ended (141), 75 if another worker is lost.
    """
    code, message = 1, ""
    interrupted.clear()
    try:
        result = call() or 0
        flush()
        return result
    except Stopped as stopped:
        code, message = 128 + stopped.signal, str(stopped)
    except PeerLost as lost:
        code, message = lost.code, str(lost)
    except (InputError, FloatingPointError) as error:
        message = str(error)
    except BrokenPipeError:
        return broken_pipe()
    except OSError as error:
        if error.filename is None and error.errno not in OUTPUT_ERRORS:
            raise
        if error.filename is None:
            discard_output()
        message = _unusable(error, arguments)
    except KeyboardInterrupt:
        code, message = 130, "interrupted"
    except Exception as error:
        known = "" if interrupted.is_set() else _message_of(error)
        if known is None:
            raise
        message = known
    if interrupted.is_set():
        code, message = 130, "interrupted"
    print(f"{program}: {message}", file=sys.stderr)
    return code


OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""Errors of writing to a full or broken disk."""


def open_standard_streams() -> None:
    """Let the standard streams that are closed, as for some services, be streams that go nowhere.

    Otherwise the next files to be opened get the numbers of their descriptors, and messages for a terminal would be
    written into them.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def flush() -> None:
    """Write what is buffered of the output; there may be none to write to."""
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def discard_output() -> None:
    """Let the output go nowhere from now on: Python writes what it has buffered once more when it exits."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # the output is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def broken_pipe() -> int:
    """End a command whose output has lost its reader, as after `| head`; return its exit code."""
    discard_output()
    return 128 + signal.SIGPIPE


def _unusable(error: OSError, arguments: Sequence[str]) -> str:
    """Say that a file cannot be read or written, and which argument it belongs to."""
    if error.filename is None:
        return f"the output cannot be written: {os.strerror(error.errno or 0)}."
    file = os.fsdecode(error.filename)
    reason = error.strerror or "it cannot be used"
    for argument, value in _values(arguments):
        path = os.path.abspath(value)
        if os.path.abspath(file) == path or os.path.abspath(file).startswith(path.rstrip(os.sep) + os.sep):
            where = "" if value == file else f": {file!r}"
            return f"{argument} {value!r} cannot be read or written: {reason}{where}."
    return f"{file!r} cannot be read or written: {reason}."


def _values(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (what the user calls it, path) of the values on a command line."""
    previous = ""
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        name = flag.lstrip("-") if flag.startswith("-") else previous or "the file"
        for part in (value if equals and flag.startswith("-") else argument).split(","):
            path = part.partition(":")[2] if part.startswith(("folder:", "idx:")) else part
            if path and not path.startswith("-"):
                yield name, os.path.expanduser(os.path.expandvars(path))
        previous = flag.lstrip("-") if flag.startswith("-") and not equals else ""


def _message_of(error: Exception) -> str | None:
    """The message of an input error that a pipeline raised inside a TensorFlow graph."""
    if not type(error).__module__.startswith("tensorflow"):
        return None
    from keras_resnet.ops import graph_errors  # imports TensorFlow

    return graph_errors.message_of(error)
