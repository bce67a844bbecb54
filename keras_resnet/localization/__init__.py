"""Localization: the class of an image, and a box around its object (appendix C of the paper)."""
