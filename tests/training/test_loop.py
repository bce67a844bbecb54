"""The training loop: when it evaluates."""

import pytest

from keras_resnet.training import loop


@pytest.mark.parametrize(
    ("start", "steps", "every", "expected"),
    [
        (0, 12, 5, [(0, 10, 2), (10, 12, 1)]),
        (0, 10, 5, [(0, 10, 2)]),
        (3, 12, 5, [(3, 5, 1), (5, 10, 1), (10, 12, 1)]),
        (10, 12, 5, [(10, 12, 1)]),
        (11, 12, 5, [(11, 12, 1)]),
        (12, 12, 5, []),
        (0, 3, 5, [(0, 3, 1)]),
        (2, 3, 5, [(2, 3, 1)]),
    ],
)
def test_segments(start, steps, every, expected):
    assert list(loop.segments(start, steps, every)) == expected
