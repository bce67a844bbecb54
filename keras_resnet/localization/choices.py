"""Names that configurations check before TensorFlow is loaded."""

PROTOCOLS = ("single", "dense")
"""Views of an image in testing: one crop of the network's input size, or whole images at one or several scales."""

SELECTIONS = {"error": "val_error", "mean_iou": "val_iou_loss"}
"""What selects the weights that a run keeps -> the number in its log whose lowest value they have."""
