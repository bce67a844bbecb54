"""Saved `.keras` files of networks, and their loading in a new process, with this package and without it.

    python tests/models/saved_networks.py write FOLDER [ResNet18 ...]
    python tests/models/saved_networks.py check FOLDER

Without names, all 18 networks of the paper are written.
"""

import pathlib
import sys

import keras
import numpy as np

SIDE = 64


def randomize(model: keras.Model) -> None:
    """Give a model random weights and batch norm statistics; small weights keep 600 blocks from overflowing."""
    random = np.random.default_rng(0)
    gain = 1 if len(model.layers) < 2000 else 0.01
    for variable in model.weights:
        shape = tuple(variable.shape)
        if len(shape) == 1:
            variable.assign(random.uniform(0.8, 1.2, shape))
        else:
            variable.assign(random.normal(0, np.sqrt(gain / np.prod(shape[:-1])), shape))


def images(model: keras.Model) -> np.ndarray:
    side = model.input_shape[1] or SIDE
    return np.random.default_rng(1).normal(size=(2, side, side, 3)).astype("float32")


def write(folder: pathlib.Path, models: dict[str, keras.Model]) -> None:
    """Save each model, its copy of stock layers, and its outputs."""
    import keras_resnet

    for name, model in models.items():
        randomize(model)
        model.save(folder / f"{name}.own.keras")
        keras_resnet.to_keras(model).save(folder / f"{name}.stock.keras")
        outputs = model.predict_on_batch(images(model))
        np.savez(folder / f"{name}.npz", **(outputs if isinstance(outputs, dict) else {"outputs": outputs}))


def check(folder: pathlib.Path) -> None:
    """Print the largest relative difference of each loaded file; the package cannot be imported for stock files."""
    if list(folder.glob("ResNet1202.*")):
        sys.setrecursionlimit(100_000)  # Keras recurses over the layers
    sys.modules["keras_resnet"] = None  # type: ignore[assignment]
    compare(folder, "stock")
    del sys.modules["keras_resnet"]
    import keras_resnet  # noqa: F401

    compare(folder, "own")


def compare(folder: pathlib.Path, kind: str) -> None:
    for path in sorted(folder.glob(f"*.{kind}.keras")):
        model = keras.saving.load_model(path)
        outputs = model.predict_on_batch(images(model))
        outputs = outputs if isinstance(outputs, dict) else {"outputs": outputs}
        with np.load(path.with_name(path.name.replace(f".{kind}.keras", ".npz"))) as stored:
            largest = max(
                float(np.abs(outputs[key] - stored[key]).max() / np.abs(stored[key]).max()) for key in stored.files
            )
        modules = {type(layer).__module__.split(".")[0] for layer in model.layers}
        print(path.name, f"{largest:.1e}", ",".join(sorted(modules)), flush=True)


def networks(names: list[str]) -> dict[str, keras.Model]:
    """The networks of the paper with small images and logits."""
    import keras_resnet

    made = {}
    for name in names or keras_resnet.ARCHITECTURES:
        side = 32 if keras_resnet.ARCHITECTURES[name].stem == "cifar" else SIDE
        made[name] = getattr(keras_resnet, name)(input_shape=(side, side, 3), classifier_activation=None)
    return made


if __name__ == "__main__":
    verb, place, *chosen = sys.argv[1:]
    if verb == "write":
        pathlib.Path(place).mkdir(parents=True, exist_ok=True)
        for network in chosen or list(networks([])):
            write(pathlib.Path(place), networks([network]))
    else:
        check(pathlib.Path(place))
