"""The engine of training: the loop around `model.fit`, checkpoints, callbacks, optimizers, schedules and losses.

Optimizers, schedules and losses work on every Keras backend; the rest requires TensorFlow.
"""
