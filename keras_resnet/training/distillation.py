"""Knowledge distillation: a network that also learns the scores of a trained one (Hinton et al., 2015)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_resnet.errors import InputError


def distilled(model: keras.Model, teacher: Callable[[Any], Any], weight: float, temperature: float) -> keras.Model:
    """Return a model of the same layers whose training loss is partly the divergence from a teacher.

    `(1 - weight) * loss + weight * T^2 * KL(softmax(teacher / T) || softmax(model / T))`, the mean over the images
    (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, section 2). The loss of an evaluation is that
    of the labels alone.

    Args:
        model: a functional model of images f32[B,H,W,3] -> logits f32[B,K], before it is compiled.
        teacher: function of the same images -> logits f32[B,K].
        weight: share of the divergence, from 0 to 1.
        temperature: T, above 0.

    Raises:
        ValueError: Keras 2 is installed.
    """
    if not hasattr(keras, "ops"):
        raise InputError("teacher requires Keras 3.")
    student = _Distilled(model.inputs, model.outputs[0], name=model.name)
    # In a function, so that the teacher's weights do not become the student's.
    student.divergence = lambda images, logits: _divergence(teacher(images), logits, temperature)
    student.weight = weight
    return student


def _divergence(teacher: Any, student: Any, temperature: float) -> Any:
    """Return the mean Kullback-Leibler divergence of logits f32[B,K] at a temperature, times its square: f32[]."""
    ops = keras.ops
    wanted, log_given = ops.stop_gradient(teacher) / temperature, ops.log_softmax(student / temperature)
    divergences = ops.sum(ops.softmax(wanted) * (ops.log_softmax(wanted) - log_given), -1)
    return ops.mean(divergences) * temperature**2


class _Distilled(keras.Model):
    """A functional model whose training loss is partly the divergence from a teacher."""

    divergence: Callable[[Any, Any], Any]
    weight: float

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return loss
        return (1.0 - self.weight) * loss + self.weight * self.divergence(x, y_pred)
