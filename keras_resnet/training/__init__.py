"""Training: optimizers, schedules, callbacks and the loop around `model.fit`.

Optimizers, schedules and losses work on every Keras backend; `fit` and `train` are imported when first used, because
they need TensorFlow.
"""

__all__ = ["fit", "train"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from keras_resnet.training import loop

    return getattr(loop, name)
