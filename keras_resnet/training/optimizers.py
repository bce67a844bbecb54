"""SGD as the paper means it: L2 decay in the gradient, under the momentum."""

from __future__ import annotations

import keras

from keras_resnet.compat import cast


@keras.saving.register_keras_serializable(package="keras_resnet")
class SGD(keras.optimizers.SGD):
    """Stochastic gradient descent with momentum and coupled weight decay (section 3.4).

    For weight w, gradient g and rate r: `v = momentum * v - r * (g + l2 * w)`, then `w += v`. The `weight_decay` of
    `keras.optimizers.SGD` is decoupled: it does not pass through the momentum.

    Args:
        learning_rate: rate or schedule.
        momentum: momentum, in [0, 1).
        l2: coefficient of the coupled decay.
        **kwargs: as for `keras.optimizers.SGD`.
    """

    def __init__(self, learning_rate=0.1, momentum=0.9, l2=0.0, name="SGD", **kwargs):
        super().__init__(learning_rate, momentum, name=name, **kwargs)
        self.l2 = l2

    def update_step(self, gradient, variable, *args, **kwargs):
        if self.l2:
            gradient = gradient + self.l2 * cast(variable, gradient.dtype)
        return super().update_step(gradient, variable, *args, **kwargs)

    def get_config(self):
        return {**super().get_config(), "l2": self.l2}
