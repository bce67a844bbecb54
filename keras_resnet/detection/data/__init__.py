"""Detection data sets: annotations, layouts and batches."""
