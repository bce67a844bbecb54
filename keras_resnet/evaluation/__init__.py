"""Evaluation: exact errors over a data set."""
