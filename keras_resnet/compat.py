"""Where Keras 2 and Keras 3 differ, by capability: everything else in the package is written once for both."""

try:  # Keras 3, any backend
    from keras.ops import argmax, average_pool, cast, cos, one_hot, pad, reshape, where
except ImportError:  # Keras 2 has no keras.ops, and only TensorFlow
    from tensorflow import argmax, cast, cos, nn, one_hot, pad, reshape, where

    def average_pool(inputs, pool_size, strides, padding):
        return nn.avg_pool(inputs, pool_size, strides, padding.upper())


__all__ = ["argmax", "average_pool", "cast", "cos", "one_hot", "pad", "reshape", "where"]
