"""Quantization-aware training: networks that learn with the rounding of int8, for Keras 3 on every backend.

prepared = quantization.prepare(model, mean, std)
quantization.calibrate(prepared, batches)
prepared.compile(...); prepared.fit(...)
content = serving.integer.convert(quantization.integer_network(prepared))     # a TFLite file
"""

from keras_resnet.quantization.calibration import calibrate
from keras_resnet.quantization.integer import integer_network, is_integer
from keras_resnet.quantization.preparation import prepare, restore

__all__ = ["calibrate", "integer_network", "is_integer", "prepare", "restore"]
