"""Image classification: configurations, runs, training, evaluation and export."""
