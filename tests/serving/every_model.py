"""Every network through every signature, outside Keras: TensorFlow's C API against the Keras model.

python -m tests.serving.every_model
python -m tests.serving.every_model --models=ResNet50 --openvino
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile

import numpy as np

from tests.serving.harness import Model
from tests.serving.sources import Source, encoded, pooled, settle, smooth

BATCHES = (1, 2, 7)


def names_and_shapes(model: Model) -> dict:
    """The signatures of a SavedModel as JSON's types; K, k and D replace the sizes that differ between networks."""
    letters = {"probabilities": "K", "classes": "k", "scores": "k", "features": "D"}
    return {
        name: {
            kind: {
                key: [tensor.dtype, [None, letters[key]] if key in letters else tensor.shape] for key, tensor in part
            }
            for kind, part in (("inputs", sorted(inputs.items())), ("outputs", sorted(outputs.items())))
        }
        for name, (inputs, outputs) in sorted(model.signatures.items())
    }


def differences(source: Source, path: pathlib.Path, seed: int = 0) -> dict[str, float]:
    """Largest difference of each signature's output from the Keras model's, over batches of 1, 2 and 7 images."""
    model, served, transform = source.load(), Model(path), source.photo_transform()
    random = np.random.default_rng(seed)
    features = pooled(model)
    height, width = transform.size
    worst = dict.fromkeys(("serving_default", "images", "features"), 0.0)
    for count in BATCHES:
        images = np.stack([smooth(random, height, width) for _ in range(count)])
        files = np.array([encoded(image) for image in images], object)
        inputs = transform.batch(transform.crop(images)).numpy()
        expected = model.predict_on_batch(inputs)
        for name, value in (("serving_default", {"image_bytes": files}), ("images", {"images": images})):
            answer = served.run(name, value)
            worst[name] = max(worst[name], np.abs(answer["probabilities"] - expected).max())
            order = np.argsort(-answer["probabilities"], axis=1, kind="stable")[:, : answer["scores"].shape[1]]
            assert np.array_equal(answer["scores"], np.take_along_axis(answer["probabilities"], order, 1))
            assert answer["classes"].tolist() == [[f"class {at}".encode() for at in row] for row in order]
        assert count < 7 or expected.std(axis=0).max() > 1e-3, "the network must tell the images apart"
        # Relative to their size: features have no fixed scale, as probabilities have.
        reference = features.predict_on_batch(inputs)
        difference = np.abs(served.run("features", {"image_bytes": files})["features"] - reference).max()
        worst["features"] = max(worst["features"], difference / np.abs(reference).max())
    return worst


def openvino_difference(source: Source, folder: pathlib.Path, seed: int = 0) -> float:
    """Largest difference of OpenVINO's probabilities from the Keras model's, for the network of the signature `images`.

    OpenVINO reads the default signature only, so `images` is written as the default one. OpenVINO lacks the operation
    that resizes, which is left out: the images have the network's own size.
    """
    import openvino
    from openvino import opset13
    from openvino.frontend.tensorflow import ConversionExtension

    from keras_resnet.serving import folding, saved_model, signatures

    model, transform = source.load(), source.photo_transform()
    served = folding.fold(model)
    endpoint = signatures.endpoints(served, transform, source.dataset_info.class_names)["images"]
    saved_model.write(served, {"serving_default": endpoint}, folder)

    def no_resizing(node):
        return [opset13.convert(node.get_input(0), "f32").output(0)]

    extension = ConversionExtension("ScaleAndTranslate", no_resizing)
    network = openvino.convert_model(str(folder), extension=[extension])
    compiled = openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    random = np.random.default_rng(seed)
    images = np.stack([smooth(random, *transform.size) for _ in range(2)])
    probabilities = compiled(images)[compiled.output("probabilities")]
    return float(np.abs(probabilities - model.predict_on_batch(transform.batch(images))).max())


def main() -> int:
    import keras_resnet
    from keras_resnet.serving import saved_model

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(keras_resnet.ARCHITECTURES), help="Which.")
    parser.add_argument("--openvino", action="store_true", help="Run OpenVINO too.")
    arguments = parser.parse_args()
    failed = 0
    for name in arguments.models.split(","):
        source = Source(settle(getattr(keras_resnet, name)()))
        with tempfile.TemporaryDirectory() as folder:
            worst = differences(source, saved_model.export(source, pathlib.Path(folder, "m")))
            if arguments.openvino:
                worst["OpenVINO"] = openvino_difference(source, pathlib.Path(folder, "openvino"))
        failed += int(max(worst.values()) > 1e-5)
        print(f"{name}: " + ", ".join(f"{key} {value:.1e}" for key, value in worst.items()), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
