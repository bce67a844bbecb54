"""One of two workers that train a network with `MultiWorkerMirroredStrategy` as it is; TF_CONFIG says which.

python -m tests.training.keras2_worker OPTIMIZER FILE
"""

import sys

import numpy as np
import tensorflow as tf

from keras_resnet.training import optimizers
from keras_resnet.training.losses import CrossEntropy, Top1Error
from tests.networks import one_block


def main(optimizer: str, file: str) -> None:
    """Train five steps and leave the weights."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        tf.keras.utils.set_random_seed(0)
        model = one_block(input_shape=(8, 8, 3), classes=4, classifier_activation=None)
        model.compile(optimizers.make(optimizer, 0.1, weight_decay=0.01), CrossEntropy(), metrics=[Top1Error()])
    random = np.random.default_rng(0)
    images, labels = random.normal(size=(80, 8, 8, 3)).astype("float32"), random.integers(0, 4, 80)
    before = model.get_weights()
    model.fit(tf.data.Dataset.from_tensor_slices((images, labels)).batch(16), verbose=0)
    replicas, after = strategy.num_replicas_in_sync, model.get_weights()
    assert all(np.any(a != b) for a, b in zip(before, after, strict=True))
    np.savez(file, np.array(replicas), *after)


if __name__ == "__main__":
    main(*sys.argv[1:])
