"""The runs of the evaluation's tests."""

from tests.evaluation.conftest import other_run, run, two_stages

__all__ = ["other_run", "run", "two_stages"]
