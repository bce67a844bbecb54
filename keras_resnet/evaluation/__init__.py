"""Evaluation: exact errors over a data set by the paper's protocols, and why a network is right or wrong."""
