"""Detection: Faster R-CNN on residual networks."""

from keras_resnet.detection.faster_rcnn import FasterRCNN, faster_rcnn

__all__ = ["FasterRCNN", "faster_rcnn"]
