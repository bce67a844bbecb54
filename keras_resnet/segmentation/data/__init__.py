"""Segmentation data: images with a label for each pixel, in the layouts that people have, and their batches."""
