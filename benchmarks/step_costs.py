"""The operations and the memory traffic of a training step, on paper."""

import collections

KINDS = (
    "convolution",
    "its gradient by input",
    "its gradient by kernel",
    "batch norm",
    "its gradient",
    "addition and ReLU",
    "their gradients, and sums of gradients",
)


def traffic(model, batch_size: int, width: int) -> tuple[collections.Counter, collections.Counter]:
    """Return the operations and the bytes of each kind of operation in a training step.

    Batch norm reads a map twice, for the statistics and to normalize it, and so does its gradient with two maps. A ReLU
    that follows a batch norm directly is part of it, but its gradient is not.

    Args:
        model: a network for images of a fixed size.
        batch_size: images in a batch.
        width: bytes of a number.
    """
    import keras

    operations, numbers = collections.Counter(), collections.Counter()

    def count(tensor) -> int:
        return batch_size * tensor.shape[1] * tensor.shape[2] * tensor.shape[3]

    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            inputs, outputs = count(layer.input), count(layer.output)
            height, columns, channels, _ = layer.kernel.shape
            passes = KINDS[:3] if layer.name != "conv1_conv" else (KINDS[0], KINDS[2])  # no gradient by the images
            for kind in passes:
                operations[kind] += 2 * outputs * height * columns * channels
                numbers[kind] += inputs + outputs
        elif isinstance(layer, keras.layers.BatchNormalization):
            numbers["batch norm"] += 3 * count(layer.output)
            numbers["its gradient"] += 5 * count(layer.output)
        elif isinstance(layer, keras.layers.Add):
            # The sum of two maps, and in the backward pass of the gradients by the two ways into the block.
            numbers["addition and ReLU"] += 3 * count(layer.output)
            numbers["their gradients, and sums of gradients"] += 3 * count(layer.output)
        elif layer.name.endswith(("relu", "out")):
            follows_norm = layer.name.endswith("relu")
            numbers["addition and ReLU"] += 0 if follows_norm else 2 * count(layer.output)
            numbers["their gradients, and sums of gradients"] += 3 * count(layer.output)
    return operations, collections.Counter({kind: width * number for kind, number in numbers.items()})
