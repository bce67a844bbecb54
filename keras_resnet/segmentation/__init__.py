"""Semantic segmentation: FCN and DeepLabv3 on dilated residual networks."""
