"""int8 files of trained networks in LiteRT: the integers of the training, to the bit."""

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from keras_resnet.evaluation import exported
from keras_resnet.quantization import integer_network
from keras_resnet.serving import integer
from tests.quantization.nets import NETS, network, normalized, pixels, prepared

OUTPUT_SCALE = 1 / 256


@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_the_file_computes_what_the_network_of_integers_does(options, random, tmp_path):
    net = integer_network(prepared(network(**options), random))
    path = tmp_path / "net.tflite"
    path.write_bytes(integer.convert(net))
    images = pixels(random, 12, net.input_shape[1])
    scores = np.concatenate([exported.read(path).function(image[None]) for image in images])
    expected = net.predict_on_batch(normalized(images))
    # The logits are equal; LiteRT's softmax rounds to its scale.
    assert np.abs(scores - expected).max() <= 1.001 * OUTPUT_SCALE
    np.testing.assert_array_equal(scores.argmax(1), expected.argmax(1))


def test_weights_of_four_bits_take_half_the_space(random, tmp_path):
    options = {"block": "basic"}
    sizes, nets = {}, {}
    for bits in (8, 4):
        nets[bits] = integer_network(prepared(network(**options), np.random.default_rng(1), weight_bits=bits))
        content = integer.convert(nets[bits])
        sizes[bits] = len(content)
    weights = sum(layer.integers.size for layer in nets[4].layers if getattr(layer, "weight_bits", 8) == 4)
    assert sizes[8] - sizes[4] > 0.4 * weights
    (tmp_path / "net.tflite").write_bytes(content)
    images = pixels(random, 8)
    scores = np.concatenate([exported.read(tmp_path / "net.tflite").function(image[None]) for image in images])
    assert np.abs(scores - nets[4].predict_on_batch(normalized(images))).max() < 0.1


def test_several_images_in_a_call(random, tmp_path):
    net = integer_network(prepared(network(block="basic"), random))
    (tmp_path / "net.tflite").write_bytes(integer.convert(net, batch_size=3))
    images = pixels(random, 3)
    scores = exported.read(tmp_path / "net.tflite").function(images)
    assert np.abs(scores - net.predict_on_batch(normalized(images))).max() <= 1.001 * OUTPUT_SCALE
