"""Networks by hand: direct convolution, batch norm, addition and ReLU in NumPy, independent of Keras."""

import numpy as np


def convolution(x, kernel, stride=1, dilation=1):
    """f64[B,H,W,C] * f64[k,k,C,F], zero padding of dilation * (k // 2) on every side."""
    size = kernel.shape[0]
    margin = dilation * (size // 2)
    padded = np.pad(x, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    height, width = (-(-side // stride) for side in x.shape[1:3])
    out = np.zeros((len(x), height, width, kernel.shape[3]))
    for i in range(height):
        for j in range(width):
            for row in range(size):
                for column in range(size):
                    pixel = padded[:, i * stride + row * dilation, j * stride + column * dilation]
                    out[:, i, j] += pixel @ kernel[row, column]
    return out


def batch_norm(x, gamma, beta, mean, variance, epsilon=1e-5):
    """Normalise with given statistics; None for those of the batch."""
    mean = x.mean((0, 1, 2)) if mean is None else mean
    variance = x.var((0, 1, 2)) if variance is None else variance
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def relu(x):
    return np.maximum(x, 0)
