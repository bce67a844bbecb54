"""int8 ONNX files of trained networks in ONNX Runtime: the integers of the training."""

import collections

import numpy as np
import pytest

pytest.importorskip("tf2onnx", reason="extra [onnx]")
pytest.importorskip("onnxruntime", reason="extra [onnx]")

import onnx
import onnxruntime

from keras_resnet.evaluation import exported
from keras_resnet.quantization import integer_network
from keras_resnet.serving import interchange
from tests.quantization.nets import NETS, network, normalized, pixels, prepared


@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_the_file_computes_what_the_network_of_integers_does(options, random, tmp_path):
    net = integer_network(prepared(network(**options), random))
    path = tmp_path / "net.onnx"
    interchange.convert(net, None, None, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    images = pixels(random, 12, net.input_shape[1])
    scores = exported.read(path).function(images)
    differences = np.abs(scores - net.predict_on_batch(normalized(images))).max(1)
    # Additions can be rounded to the other side; plain networks have none.
    assert np.mean(differences > 1e-5) <= (0.25 if options.get("shortcut", "A") else 0.0)
    assert differences.max() < 0.03


def test_weights_are_integers_and_convolutions_are_computed_with_them(random, tmp_path):
    net = integer_network(prepared(network(block="bottleneck"), random))
    path = tmp_path / "net.onnx"
    interchange.convert(net, None, None, path)
    stored = collections.Counter()
    for each in onnx.load(path).graph.initializer:
        stored[each.data_type] += int(np.prod(each.dims))
    weights = sum(layer.integers.size for layer in net.layers if hasattr(layer, "integers"))
    assert weights <= stored[onnx.TensorProto.INT8] < 1.1 * weights
    assert stored[onnx.TensorProto.FLOAT] < 0.5 * weights
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(path, options)
    kinds = collections.Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert kinds["QLinearConv"] == sum(hasattr(layer, "integers") for layer in net.layers)
    assert not kinds["Conv"]
