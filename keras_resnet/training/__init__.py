"""Training: optimizers, callbacks and the fit loop."""
