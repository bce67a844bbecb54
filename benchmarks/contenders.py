"""The contenders: each function sets one up in the calling process and returns its turn function.

A turn does the work once, waits for the results and returns the number of items processed. A turn that measures itself
returns the values of `worker.measured`. Options are JSON types, so that they can be passed to another process.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

ROOT = pathlib.Path(__file__).parent.parent

Turn = Callable[[], float | dict]


# Networks


def keras_network(library: str, model: str, size: int, dtype: str, **options):
    """Build a network of this package, the same with Keras' batch norm, or one of keras.applications.

    Args:
        library: "keras_resnet", "keras.applications" or "keras batch norm".
        model: name of the constructor.
        size: side of the images in pixels.
        dtype: dtype policy.
        **options: for this package's constructor.
    """
    import keras

    import keras_resnet

    if keras.backend.backend() == "jax":
        check_jax_device()
    keras.config.set_dtype_policy(dtype)
    if library == "keras.applications":
        return getattr(keras.applications, model)(weights=None, input_shape=(size, size, 3))
    network = network_with_biases(getattr(keras_resnet, model)(input_shape=(size, size, 3), **options))
    if library == "keras_resnet":
        return network

    def copy(layer):
        batch_norm = isinstance(layer, keras.layers.BatchNormalization)
        return (keras.layers.BatchNormalization if batch_norm else type(layer)).from_config(layer.get_config())

    return keras.models.clone_model(network, clone_function=copy)


def network_with_biases(network):
    """Give the batch norms of a network the biases that trained ones have, and return it.

    Biases of 0 are removed where weights are constants.
    """
    import keras

    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign(keras.ops.full(layer.beta.shape, 0.1))
    return network


def torch_network(source: str, model: str):
    """Build the same network in PyTorch, without weights.

    Args:
        source: "own" for the modules of the tests, with the strides of the paper, "timm" or "torchvision".
        model: name of this package's constructor.
    """
    if source == "timm":
        import timm

        return timm.create_model(model.lower())
    if source == "torchvision":
        import torchvision

        return torchvision.models.get_model(model.lower())
    import keras_resnet

    net = keras_resnet.ARCHITECTURES[model]
    from tests.models import torch_nets

    blocks = tuple(stage.blocks for stage in net.stages)
    if net.stem == "imagenet":
        return torch_nets.TorchvisionNet(net.block, blocks, stride_in_1x1=True)
    return torch_nets.AkamasterNet(blocks[0])


def batch(batch_size: int, size: int, classes: int):
    """Return random images f32[B,H,W,3] and labels i64[B]."""
    import numpy as np

    random = np.random.default_rng(0)
    images = random.normal(size=(batch_size, size, size, 3)).astype("float32")
    return images, random.integers(0, classes, batch_size)


def on_torch_device(device: str) -> None:
    """Let PyTorch use what training scripts use on a GPU: TF32 products, and the fastest of cuDNN's convolutions."""
    import torch

    if device == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True


def check_jax_device() -> None:
    """Raise an error if JAX should use a GPU and has none: it would compute on the CPU."""
    import jax

    if os.environ.get("JAX_PLATFORMS", "").startswith("cuda") and jax.default_backend() != "gpu":
        raise RuntimeError("JAX finds no GPU; it requires jax[cuda]")


def jax_turn(network, work: str, steps: int, images, labels=None) -> Turn:
    """Return a turn of steps of `fit` or `predict` on JAX, whose state stays on the device from step to step.

    `train_on_batch` and `predict_on_batch` copy results, and assign all variables, after each step.

    Args:
        network: a network on JAX, for training with an optimizer and loss; its variables cannot be used afterward.
        work: "training" or "inference".
        steps: steps of a turn.
        images: f32[B,H,W,3] on the device.
        labels: i64[B], for training.

    Returns:
        The turn function; its attributes are `step`, the compiled step, and `state`, lists of the values of variables.
    """
    import jax

    groups = [network.trainable_variables, network.non_trainable_variables]
    if work == "training":
        network.optimizer.build(network.trainable_variables)
        groups += [network.optimizer.variables, network.metrics_variables]
        function, data = network.train_step, (images, labels)
    else:

        def function(state, data):
            outputs, changed = network.predict_step(state, data)
            return outputs, (state[0], changed)

        data = (images,)
    state = tuple([variable.value for variable in group] for group in groups)
    step = jax.jit(function, donate_argnums=0).lower(state, data).compile()

    def turn():
        for _ in range(steps):
            outputs, turn.state = step(turn.state, data)
        jax.block_until_ready((outputs, turn.state))
        return steps * len(images)

    turn.step, turn.state = step, state
    return turn


# Training and inference


def keras_training(
    library: str,
    model: str,
    batch_size: int,
    size: int,
    dtype: str = "float32",
    recipe: bool = False,
    keras_sgd: bool = False,
    steps: int = 1,
    **options,
) -> Turn:
    """Training steps on an in-memory batch, SGD with momentum; on TensorFlow, this package's with that of its runs.

    Args:
        library: as for `keras_network`.
        model: name of the constructor.
        batch_size: images in a batch.
        size: side of the images in pixels.
        dtype: dtype policy.
        recipe: whether to use the weight decay, loss and metric of `keras-resnet train` too.
        keras_sgd: whether to use Keras' SGD with this package's network, as in a user's script.
        steps: steps of a turn.
        **options: for this package's constructor.
    """
    import keras

    if recipe:
        options["classifier_activation"] = None  # the loss takes logits
    network = keras_network(library, model, size, dtype, **options)
    if keras.backend.backend() != "tensorflow":
        network.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    elif recipe:
        from keras_resnet.training import losses, optimizers

        optimizer = optimizers.make("sgd", 0.01, weight_decay=1e-4)
        network.compile(optimizer, losses.CrossEntropy(), metrics=[losses.Top1Error()])
    else:
        from keras_resnet.training import optimizers

        sgd = optimizers.SGD if library == "keras_resnet" and not keras_sgd else keras.optimizers.SGD
        network.compile(sgd(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    images, labels = batch(batch_size, size, network.output_shape[-1])
    images, labels = keras.ops.convert_to_tensor(images), keras.ops.convert_to_tensor(labels)
    if keras.backend.backend() == "jax":
        return jax_turn(network, "training", steps, images, labels)
    if keras.backend.backend() == "torch":
        on_torch_device(images.device.type)

    def turn():
        for _ in range(steps):
            network.train_on_batch(images, labels)
        return steps * batch_size

    return turn


def torch_training(
    model: str,
    batch_size: int,
    size: int,
    dtype: str = "float32",
    compile: bool = False,
    source: str = "own",
    device: str = "cpu",
    steps: int = 1,
) -> Turn:
    """Training steps of PyTorch in channels-last format; half precision by autocast, as its manual recommends."""
    import torch

    on_torch_device(device)
    network = torch_network(source, model).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, fused=device == "cuda")
    loss_function = torch.nn.CrossEntropyLoss()
    forward = torch.compile(network) if compile else network
    images, labels = batch(batch_size, size, 10)
    images = torch.from_numpy(images).permute(0, 3, 1, 2).to(device, memory_format=torch.channels_last)
    labels = torch.from_numpy(labels).to(device)
    half = dtype != "float32"

    def turn():
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16, enabled=half):
                loss = loss_function(forward(images), labels)
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return steps * batch_size

    return turn


def keras_inference(
    library: str,
    model: str,
    batch_size: int,
    size: int,
    dtype: str = "float32",
    fold: bool = False,
    optimized: bool = False,
    steps: int = 1,
    **options,
) -> Turn:
    """Calls of `predict_on_batch`, a graph, or of the step of `predict` on JAX.

    Args:
        library: as for `keras_network`.
        model: name of the constructor.
        batch_size: images in a batch.
        size: side of the images in pixels.
        dtype: dtype policy.
        fold: whether to fold batch norm, as in an exported network.
        optimized: whether to call `keras_resnet.optimized(network)` instead.
        steps: calls of a turn.
        **options: for this package's constructor.
    """
    import keras

    import keras_resnet

    network = keras_network(library, model, size, "float32" if fold or optimized else dtype, **options)
    if fold:
        from keras_resnet.serving import folding

        network = folding.fold(network, dtype.removeprefix("mixed_"))
    predict = keras_resnet.optimized(network, dtype.removeprefix("mixed_")) if optimized else network.predict_on_batch
    images = keras.ops.convert_to_tensor(batch(batch_size, size, 1)[0])
    if keras.backend.backend() == "jax":
        return jax_turn(network, "inference", steps, images)
    if keras.backend.backend() == "torch":
        on_torch_device(images.device.type)

    def turn():
        for _ in range(steps):
            keras.ops.convert_to_numpy(predict(images))  # waits for the result
        return steps * batch_size

    return turn


def torch_inference(
    model: str,
    batch_size: int,
    size: int,
    dtype: str = "float32",
    compile: bool = False,
    source: str = "own",
    device: str = "cpu",
    steps: int = 1,
) -> Turn:
    """Calls of PyTorch in channels-last format, with weights in `dtype`."""
    import torch

    on_torch_device(device)
    kind = getattr(torch, dtype.removeprefix("mixed_"))
    network = torch_network(source, model).to(device, kind, memory_format=torch.channels_last).eval()
    forward = torch.compile(network) if compile else network
    images = torch.from_numpy(batch(batch_size, size, 1)[0]).permute(0, 3, 1, 2)
    images = images.to(device, kind, memory_format=torch.channels_last)

    def turn():
        with torch.inference_mode():
            for _ in range(steps):
                outputs = forward(images)
            outputs.float().cpu()  # waits for a GPU
        return steps * batch_size

    return turn


def matrix_product(library: str, dtype: str, size: int, device: str = "cpu", steps: int = 1) -> Turn:
    """Products of two square matrices, an upper limit for convolutions; in float32 on GPUs by TF32.

    Args:
        library: "tensorflow", "jax" or "torch".
        dtype: "float32" or "bfloat16".
        size: side of the matrices.
        device: "cpu" or "cuda", for torch.
        steps: products of a turn, without TensorFlow.
    """
    if library == "tensorflow":
        import tensorflow as tf

        a, b = (tf.cast(tf.random.normal((size, size)), dtype) for _ in range(2))
        product = tf.function(lambda: tf.matmul(a, b))

        def turn():
            product()[0, 0].numpy()
            return 1
    elif library == "jax":
        import jax

        check_jax_device()
        a, b = (jax.random.normal(jax.random.key(seed), (size, size), dtype) for seed in range(2))
        product = jax.jit(jax.numpy.matmul)

        def turn():
            for _ in range(steps):
                result = product(a, b)
            result.block_until_ready()
            return steps
    else:
        import torch

        on_torch_device(device)
        a, b = (torch.randn(size, size, dtype=getattr(torch, dtype), device=device) for _ in range(2))

        def turn():
            for _ in range(steps):
                result = torch.mm(a, b)
            result[0, 0].item()
            return steps

    return turn


# Correctness


def outputs(
    library: str,
    model: str,
    batch_size: int,
    size: int,
    dtype: str,
    device: str,
    work: str = "inference",
    limit: float | None = None,
) -> Turn:
    """Compare a network on a GPU with its float32 copy on the CPU.

    The turn returns the largest difference of a logit, as a share of the largest logit, or in training the same of the
    change of all weights by one step.

    Args:
        library: "keras_resnet", on JAX, "timm" or "torchvision".
        model: name of the constructor.
        batch_size: images in a batch.
        size: side of the images in pixels.
        dtype: dtype policy on the GPU.
        device: "cuda", or "cpu" to compare two networks on the CPU.
        work: "inference" or, of this package, "training".
        limit: largest difference that is accepted, if any.

    Raises:
        RuntimeError: the turn found a larger one.
    """
    import numpy as np

    images, labels = batch(batch_size, size, 10)
    places = [("cpu", "float32"), (device, dtype)]

    def of_keras():
        import jax
        import keras

        weights, found = None, []
        for place, policy in places:
            with jax.default_device(jax.devices("cpu" if place == "cpu" else None)[0]):
                network = keras_network(library, model, size, policy, classifier_activation=None)
                weights = network.get_weights() if weights is None else weights
                network.set_weights(weights)
                if work == "inference":
                    found.append(network.predict_on_batch(images))
                    continue
                before = [variable.numpy() for variable in network.trainable_variables]
                loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
                network.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
                network.train_on_batch(images, labels)
                after = [variable.numpy() for variable in network.trainable_variables]
                found.append(np.concatenate([(new - old).ravel() for new, old in zip(after, before, strict=True)]))
        return found

    def of_torch():
        import torch

        network, pixels, found = torch_network(library, model).eval(), torch.from_numpy(images), []
        for place, policy in places:
            options = {"dtype": getattr(torch, policy.removeprefix("mixed_")), "memory_format": torch.channels_last}
            with torch.inference_mode():
                logits = network.to(place, **options)(pixels.permute(0, 3, 1, 2).to(place, **options))
            found.append(logits.float().cpu().numpy())
        return found

    def turn():
        exact, found = (
            np.asarray(values, "float32") for values in (of_keras if library == "keras_resnet" else of_torch)()
        )
        difference = float(np.abs(found - exact).max() / np.abs(exact).max())
        if limit is not None and not difference <= limit:
            raise RuntimeError(f"the largest difference is {difference:.2g}; allowed is {limit:g}")
        return difference

    return turn


# Exports, one image per call


def write_exports(model: str, size: int, folder: str) -> Turn:
    """Export a network with random weights as SavedModel, OpenVINO and TFLite files in the turn."""
    import numpy as np

    import keras_resnet
    from keras_resnet.data.dataset import Dataset, DatasetInfo, Images
    from keras_resnet.serving import interchange, saved_model, tflite
    from tests.serving.sources import MEAN, STD, Source, settle, smooth

    source = Source(settle(getattr(keras_resnet, model)(input_shape=(size, size, 3))))
    random = np.random.default_rng(0)
    pixels = np.stack([smooth(random, size, size) for _ in range(24)])
    names = source.dataset_info.class_names
    images = Images(pixels, np.zeros(len(pixels), "int32"))
    info = DatasetInfo("images", names, (size, size), {"train": len(pixels)}, MEAN, STD)

    def turn():
        saved_model.export(source, pathlib.Path(folder, "saved_model"))
        interchange.export(source, pathlib.Path(folder, "openvino"), "openvino")
        tflite.export(
            source,
            pathlib.Path(folder, "tflite"),
            variants=("float32", "int8"),
            dataset=Dataset(info, {"train": images}.__getitem__),
            calibration_images=len(pixels),
        )
        return 1

    return turn


def pixels(size: int):
    """Return one random image u8[1,H,W,3]."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (1, size, size, 3)).astype("uint8")


def saved_model(folder: str, size: int) -> Turn:
    """A request of one image to the SavedModel in TensorFlow's C API, as TensorFlow Serving computes it."""
    from tests.serving.harness import Model

    served, images = Model(pathlib.Path(folder, "saved_model", "1")), pixels(size)

    def turn():
        served.run("images", {"images": images})
        return 1

    return turn


def lite(folder: str, size: int, variant: str) -> Turn:
    """A call of LiteRT with one thread per core."""
    from ai_edge_litert.interpreter import Interpreter

    (path,) = pathlib.Path(folder, "tflite").glob(f"*_{variant}.tflite")
    runner = Interpreter(str(path), num_threads=len(os.sched_getaffinity(0))).get_signature_runner("serving_default")
    images = pixels(size)

    def turn():
        runner(images=images)
        return 1

    return turn


def openvino(folder: str, size: int, dtype: str) -> Turn:
    """A call of OpenVINO with one thread per core.

    Args:
        folder: the folder of `write_exports`.
        size: side of the images in pixels.
        dtype: "f32" or "bf16", in which OpenVINO computes the float32 file.
    """
    import openvino as runtime

    (path,) = pathlib.Path(folder, "openvino").glob("*.xml")
    threads = len(os.sched_getaffinity(0))
    options = {"INFERENCE_PRECISION_HINT": dtype, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled, images = runtime.Core().compile_model(path, "CPU", options), pixels(size).astype("float32")

    def turn():
        compiled([images])
        return 1

    return turn


def keras_call(library: str, model: str, size: int) -> Turn:
    """A call of `model(image)`, layer by layer, as in tutorials."""
    import keras

    network = keras_network(library, model, size, "float32")
    image = keras.ops.convert_to_tensor(pixels(size).astype("float32"))

    def turn():
        keras.ops.convert_to_numpy(network(image))
        return 1

    return turn


# Start-up and memory: each turn in a new process


def importing(module: str, after: Sequence[str] = (), attribute: str | None = None) -> Turn:
    """Import a module and access one of its attributes.

    Args:
        module: its name.
        after: modules that are imported before the turn.
        attribute: the attribute, if any.
    """
    import importlib

    for name in after:
        importlib.import_module(name)

    def turn():
        imported = importlib.import_module(module)
        if attribute:
            getattr(imported, attribute)
        return 1

    return turn


def building(library: str, model: str, step_batch: int = 0) -> Turn:
    """Build a network after all imports; if `step_batch` is set, run a training step on that many images."""
    import keras

    import keras_resnet

    constructor = getattr(keras_resnet if library == "keras_resnet" else keras.applications, model)

    def turn():
        network = constructor(weights=None)
        if step_batch:
            network.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
            network.train_on_batch(*batch(step_batch, network.input_shape[1], network.output_shape[-1]))
        return 1

    return turn


def training_memory(**options) -> Turn:
    """Three training steps with the options of `keras_training`, to measure their memory."""
    step = keras_training(**options)

    def turn():
        return sum(step() for _ in range(3))

    return turn


# A whole run


def pipeline(dataset: str, data_dir: str | None, batch_size: int) -> Turn:
    """One batch of the training pipeline of section 4.2."""
    from keras_resnet.data import pipeline as batches
    from keras_resnet.data import sources
    from keras_resnet.data.transforms import TrainTransform

    loaded = sources.load(dataset, data_dir)
    transform = TrainTransform(loaded.info.image_size, (125.0, 123.0, 114.0), (63.0, 62.0, 67.0))
    iterator = batches.train(loaded, batch_size, transform).as_numpy_iterator()

    def turn():
        next(iterator)
        return batch_size

    return turn


def whole_run(
    preset: str, dataset: str, data_dir: str | None, batch_size: int, steps: int, eval_images: int, dtype: str
) -> Turn:
    """`keras-resnet train` between two evaluations: steps, checkpoints, one evaluation and all output files.

    The turn starts a run and measures the time between the log lines of its first and second evaluation.

    Args:
        preset: the preset.
        dataset: the data set.
        data_dir: folder of prepared tensorflow-datasets.
        batch_size: images per step.
        steps: steps between evaluations, with two checkpoints.
        eval_images: test images of an evaluation.
        dtype: dtype policy.
    """

    def turn():
        with tempfile.TemporaryDirectory() as folder:
            flags = {
                "preset": preset,
                "dataset": dataset,
                "eval_split": f"test[:{eval_images}]",
                "batch_size": batch_size,
                "steps": 2 * steps,
                "decay_steps": "",
                "eval_steps": steps,
                "checkpoint_steps": -(-steps // 2),
                "precision": dtype,
                "workdir": f"{folder}/run",
                **({"data_dir": data_dir} if data_dir else {}),
            }
            command = [sys.executable, "-m", "keras_resnet.cli", "train", *(f"--{k}={v}" for k, v in flags.items())]
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
            first = None
            for line in process.stdout:
                if line.startswith(f"step {steps}/"):
                    first = time.perf_counter(), _child_seconds(process.pid)
                if line.startswith(f"step {2 * steps}/"):
                    last = time.perf_counter(), _child_seconds(process.pid)
            if process.wait() or first is None:
                raise RuntimeError(f"keras-resnet train ended with code {process.returncode}")
        return {"amount": batch_size * steps, "seconds": last[0] - first[0], "processor": last[1] - first[1]}

    return turn


def _child_seconds(process: int) -> float:
    """Return the processor seconds of a running process."""
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
