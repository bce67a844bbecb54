"""Pictures of what a classifier bases its first classes on, by Grad-CAM."""

from __future__ import annotations

import os
from collections.abc import Sequence

import keras
import numpy as np

from keras_resnet.data.transforms import EvalTransform
from keras_resnet.evaluation.inspection import contact_sheet, thumbnail
from keras_resnet.models.class_names import readable
from keras_resnet.models.grad_cam import GradCAM, overlay

CLASSES = 3
"""Most classes in a picture."""


class Explainer:
    """Draws the image as the network sees it, and the maps of its most probable classes over it.

    Args:
        model: the classifier, f32[B,H,W,3] -> f32[B,K].
        transform: its test transform.
        class_names: names of the K classes.
    """

    def __init__(self, model: keras.Model, transform: EvalTransform, class_names: Sequence[str]):
        self.maps, self.transform, self.class_names = GradCAM(model), transform, readable(class_names)

    def draw(self, pixels: np.ndarray, scores: np.ndarray, path: str | os.PathLike) -> None:
        """Draw an image.

        Args:
            pixels: f32[H,W,3] in [0, 255], the transform's crop of the image.
            scores: f32[K], the probabilities of the classes.
            path: the image file to write.
        """
        crop = np.round(pixels).clip(0, 255).astype("uint8")
        classes = np.argsort(-scores, kind="stable")[:CLASSES]
        batch = np.repeat(self.transform.batch(pixels[None]), len(classes), axis=0)
        overlays = [overlay(crop, heat_map) for heat_map in self.maps(batch, classes)]
        captions = [f"{self.class_names[number]} {scores[number]:.3f}" for number in classes]
        pictures = zip(["input of the network", *captions], [crop, *overlays], strict=True)
        contact_sheet([(caption, np.asarray(thumbnail(image))) for caption, image in pictures], path)
