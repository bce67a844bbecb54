"""Data sets by name, and pipelines that turn them into batches."""
