"""Object detection: Faster R-CNN on residual networks (appendix A of the paper)."""
