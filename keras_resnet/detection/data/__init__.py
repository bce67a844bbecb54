"""Detection data: annotated images, the layouts of VOC, COCO and tensorflow-datasets, and batches."""
