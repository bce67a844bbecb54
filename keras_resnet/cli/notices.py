"""Keep the notices of TensorFlow off the terminal, but none of its errors.

TensorFlow's C++ code writes to file descriptor 2 before any setting of Python can reach it. `quiet` puts a filter
between the descriptor and the terminal before TensorFlow is imported: a process of its own, so that what TensorFlow
writes before a crash still arrives. It drops the lines that match `NOTICES` and forwards every other line. Python's
`sys.stderr` does not pass through it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable

if __name__ != "__main__":  # the filter starts without them
    import atexit
    import logging
    import subprocess

NOTICES = re.compile(
    rb"All log messages before absl::InitializeLog"
    rb"|oneDNN custom operations are on"
    rb"|TensorFlow binary is optimized to use available CPU instructions"
    rb"|To enable the following instructions: .* rebuild TensorFlow"
    rb"|Could not find cuda drivers on your machine, GPU will not be used"
    rb"|failed call to cuInit: .*UNKNOWN ERROR \(303\)"  # no driver is installed; other numbers are real errors
    rb"|Unable to register cu(FFT|DNN|BLAS) factory"
    rb"|computation placer already registered"
    rb"|Local rendezvous is aborting with status: (OUT_OF_RANGE|CANCELLED)"
    rb"|Ignored (output_format|drop_control_dependency|change_concat_input_ranges)"
    rb"|Skipping runtime version metadata in the model"
    rb"|Reading (SavedModel from|meta graph with tags)|Restoring SavedModel bundle"
    rb"|Running initialization op on SavedModel bundle|SavedModel load for tags .* Status: success"
    rb"|MLIR V1 optimization pass is not enabled"
    rb"|Created TensorFlow Lite (XNNPACK )?delegate"
    rb"|fully_quantize: \d+, inference_type"
)
"""What the lines contain that are dropped: each is printed in runs in which nothing is wrong."""


def forward(lines: Iterable[bytes], write: Callable[[bytes], object]) -> None:
    """Write the lines that are no notices.

    Args:
        lines: lines of bytes, read as they arrive.
        write: called with each line to forward.
    """
    for line in lines:
        if not NOTICES.search(line):
            write(line)


class _BeforeTensorFlow:
    """A finder of modules that finds none, but prepares for TensorFlow when it is about to be imported.

    Args:
        with_filter: whether to start the filter.
    """

    def __init__(self, with_filter: bool):
        self.with_filter = with_filter

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "tensorflow":
            sys.meta_path.remove(self)
            prepare(self.with_filter)


def quiet(*, with_filter: bool = False) -> None:
    """Keep TensorFlow's notices off the terminal; call it before TensorFlow is imported.

    TF_CPP_MIN_LOG_LEVEL=0 in the environment keeps all messages.

    Args:
        with_filter: filter what is written to file descriptor 2 too: for the main program of a process.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1") == "0":
        return
    if "tensorflow" in sys.modules:
        prepare(with_filter=False)
    elif not any(isinstance(finder, _BeforeTensorFlow) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BeforeTensorFlow(with_filter))


def prepare(with_filter: bool) -> None:
    """Set the levels of the loggers that TensorFlow and tensorflow-datasets use, and start the filter."""
    from absl import logging as absl_logging  # takes longer than everything else that the command line imports

    absl_logging.set_verbosity(absl_logging.WARNING)
    logger = logging.getLogger("tensorflow")
    logger.setLevel(logging.WARNING)
    logger.addFilter(_is_worth_reading)
    if with_filter:
        start_filter()


def _is_worth_reading(record: logging.LogRecord) -> bool:
    """Whether a record of TensorFlow's logger is no notice: networks of an evaluation are traced one after another."""
    return "triggered tf.function retracing" not in record.getMessage()


def start_filter() -> None:
    """Let a process of its own filter what is written to file descriptor 2 from now on."""
    try:
        real = os.dup(2)
    except OSError:  # there is no standard error
        return
    reader, writer = os.pipe()
    sys.stderr.flush()
    # A session of its own, so that Ctrl-C does not end it before the last line.
    process = subprocess.Popen([sys.executable, "-I", "-S", __file__], stdin=reader, start_new_session=True)
    os.close(reader)
    os.dup2(writer, 2)
    os.close(writer)
    sys.stderr = open(real, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")  # noqa: SIM115

    def finish() -> None:
        """Wait until the last line has arrived, so that nothing follows the shell's prompt."""
        os.dup2(sys.stderr.fileno(), 2)
        try:
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:  # another process still writes to it
            process.returncode = 0

    atexit.register(finish)


if __name__ == "__main__":
    forward(sys.stdin.buffer, lambda line: os.write(2, line))
