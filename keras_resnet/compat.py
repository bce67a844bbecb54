"""Where Keras 2 and Keras 3 differ, by capability: everything else in the package is written once for both."""

try:  # Keras 3, any backend
    from keras.ops import argmax, cast, cos, one_hot, pad, reshape, where
except ImportError:  # Keras 2 has no keras.ops, and only TensorFlow
    from tensorflow import argmax, cast, cos, one_hot, pad, reshape, where

__all__ = ["argmax", "cast", "cos", "one_hot", "pad", "reshape", "where"]
