"""The engine of evaluation: exact errors over a data set by the paper's protocols, ensembles, reports and figures."""
