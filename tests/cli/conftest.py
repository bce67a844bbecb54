"""The runs of the evaluation's tests."""

from tests.evaluation.conftest import other_run, run

__all__ = ["other_run", "run"]
