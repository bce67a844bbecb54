"""Images and a small PyTorch network for the tests of weights."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")


@pytest.fixture(scope="module")
def small():
    """The network `nets.tiny` in PyTorch, with the stride in the 3x3 (v1.5)."""
    pytest.importorskip("torch")
    from tests.models import torch_nets

    return torch_nets.randomized(torch_nets.TorchvisionNet("bottleneck", (1, 2), (8, 16), 5))
