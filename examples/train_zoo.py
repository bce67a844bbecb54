"""Train presets for small images with Keras on JAX, one after the other, as fast as one accelerator can.

    python examples/train_zoo.py --presets=cifar10_resnet20,cifar10_resnet56 --out=runs      # downloads CIFAR-10
    python examples/train_zoo.py --data=cifar10.npz --presets=cifar10_resnet20 --seeds=0,1,2 --out=runs

It needs no TensorFlow. All images stay on the device, which also crops, mirrors and normalizes them, and
`jax.lax.scan` takes many steps in one call. Each network becomes a run folder `OUT/PRESET-seedN`, which
`keras-resnet evaluate`, `export` and `curves` accept; `OUT/results.json` lists the finished ones. The state is saved at
each evaluation: rerun the same command to resume after an interruption.
"""

import dataclasses
import functools
import io
import json
import os
import pathlib
import platform
import time

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import keras
import numpy as np
from absl import app, flags
from tqdm import tqdm

from keras_resnet import files
from keras_resnet.classification.config import PRESETS
from keras_resnet.errors import InputError, check_choice
from keras_resnet.models import resnet, weights
from keras_resnet.models.weights.published import CIFAR10_CLASSES
from keras_resnet.training import optimizers, schedules

FLAGS = flags.FLAGS
flags.DEFINE_list("presets", ["cifar10_resnet20"], "Presets for images of one size, with the paper's recipe.")
flags.DEFINE_list("seeds", ["0"], "Seeds; each preset is trained once with each.")
flags.DEFINE_string("data", None, "File of NumPy arrays x_train, y_train, x_test, y_test; by default downloaded.")
flags.DEFINE_integer("steps", 0, "Training steps; 0 for the preset's. Decay steps keep their share.", lower_bound=0)
flags.DEFINE_integer("eval_steps", 1000, "Steps between evaluations.", lower_bound=1)
flags.DEFINE_integer(
    "steps_per_call",
    0,
    "Steps in one call of JAX; 0 for 1 on a CPU, whose loops are slow, and 100 elsewhere.",
    lower_bound=0,
)
flags.DEFINE_enum("precision", "float32", ["float32", "mixed_bfloat16"], "Precision of the layers.")
flags.DEFINE_string("out", "runs", "Folder of the run folders.")

TEST_BATCH = 500
WARMUP_STEPS = 400  # "about 400 iterations" until the training error of 110 layers is below 80 % (section 4.2)


def configuration(preset, seed):
    """Return the configuration of a preset for `--steps`, with a warm-up of fixed length."""
    check_choice("presets", preset, PRESETS)
    config = PRESETS[preset]
    if config.crop != "pad" or config.optimizer != "sgd" or config.schedule != "piecewise":
        raise InputError(f"presets must be for CIFAR-sized images with the paper's recipe; got {preset!r}.")
    steps = FLAGS.steps or config.steps
    changes = {"decay_steps": tuple(step * steps // config.steps for step in config.decay_steps)}
    if config.warmup_error:
        changes |= {"warmup_error": 0.0, "warmup_steps": min(WARMUP_STEPS, steps // 4)}
    return dataclasses.replace(
        config, steps=steps, eval_steps=FLAGS.eval_steps, precision=FLAGS.precision, seed=seed, **changes
    )


def arrays(path, dataset):
    """Return images u8[N,H,W,3] and labels i32[N] for training, the same for testing, and the names of the classes."""
    if path is None:
        train, test = getattr(keras.datasets, dataset).load_data()
    else:
        with np.load(path) as file:
            train, test = ((file[f"x_{part}"], file[f"y_{part}"]) for part in ("train", "test"))
    parts = []
    for images, labels in (train, test):
        images = images if images.ndim == 4 else np.repeat(images[..., None], 3, axis=-1)
        parts += [images, labels.reshape(-1).astype("int32")]
    names = CIFAR10_CLASSES if dataset == "cifar10" else [str(number) for number in range(parts[1].max() + 1)]
    return *parts, names


def indices(seed, start, stop, batch_size, count):
    """Return the images of steps `start` to `stop` - 1, i32[steps,B]: each epoch is a permutation of all images."""
    places = np.arange(start * batch_size, stop * batch_size)
    epochs = {epoch: np.random.default_rng((seed, epoch)).permutation(count) for epoch in np.unique(places // count)}
    index = np.concatenate([epochs[epoch][places[places // count == epoch] % count] for epoch in sorted(epochs)])
    return index.astype("int32").reshape(-1, batch_size)


def augment(images, key, pad, mirror):
    """Pad each side by zeros, crop the original size and mirror, all at random, f32[B,H,W,3] -> the same."""
    count, height, width, _ = images.shape
    offsets_key, mirror_key = jax.random.split(key)
    offsets = jax.random.randint(offsets_key, (count, 2), 0, 2 * pad + 1)
    mirrored = jax.random.bernoulli(mirror_key, 0.5, (count, 1)) & mirror
    rows = offsets[:, :1] + jnp.arange(height)  # i32[B,H]
    columns = offsets[:, 1:] + jnp.where(mirrored, jnp.arange(width)[::-1], jnp.arange(width))  # i32[B,W]
    padded = jnp.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    return padded[jnp.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


class Trainer:
    """Takes steps of one network; its state is a pure function of the configuration and the data."""

    def __init__(self, config, data):
        self.config = config
        self.images, self.labels, self.test_images, self.test_labels, self.class_names = data
        pixels = self.images.reshape(-1, 3).astype("float64")
        self.mean, self.std = np.round(pixels.mean(0), 3), np.round(pixels.std(0), 3)
        keras.utils.set_random_seed(config.seed)
        self.model = resnet.constructor(config.model)(
            input_shape=self.images.shape[1:],
            classes=len(self.class_names),
            classifier_activation=None,
            dtype=config.precision,
        )
        rate = schedules.make(
            config.schedule,
            config.learning_rate,
            steps=config.steps,
            decay_steps=config.decay_steps,
            warmup_steps=config.warmup_steps,
            warmup_rate=config.warmup_rate,
        )
        self.optimizer = optimizers.SGD(rate, config.momentum, l2=config.weight_decay)
        self.optimizer.build(self.model.trainable_variables)
        self.key = jax.random.key(config.seed)
        self.data = jax.device_put((self.images, self.labels))
        self.test_data = jax.device_put((self.test_images, self.test_labels))

    def state(self):
        """Return the values of all variables: trained ones, batch norm statistics, the optimizer's."""
        groups = (self.model.trainable_variables, self.model.non_trainable_variables, self.optimizer.variables)
        return tuple([variable.value for variable in group] for group in groups)

    def assign(self, state):
        """Give the network the values of a state."""
        variables = self.model.trainable_variables + self.model.non_trainable_variables
        for variable, value in zip(variables, state[0] + state[1], strict=True):
            variable.assign(value)

    def normalize(self, images):
        return (images.astype("float32") - self.mean.astype("float32")) / self.std.astype("float32")

    def loss(self, trained, statistics, images, labels):
        logits, statistics = self.model.stateless_call(trained, statistics, images, training=True)
        logits = logits.astype("float32")
        losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
        return losses.mean(), (statistics, (logits.argmax(1) != labels).mean())

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def train(self, state, data, start, index):
        """Take the steps of i32[steps,B] image numbers; return the state, f32[steps] losses and errors in [0, 1]."""

        def step(state, position):
            number, chosen = position
            trained, statistics, slots = state
            images = self.normalize(data[0][chosen])
            images = augment(images, jax.random.fold_in(self.key, number), self.config.pad, self.config.mirror)
            gradient = jax.value_and_grad(self.loss, has_aux=True)
            (loss, (statistics, error)), gradients = gradient(trained, statistics, images, data[1][chosen])
            trained, slots = self.optimizer.stateless_apply(slots, gradients, trained)
            return (trained, statistics, slots), (loss, error)

        if len(index) == 1:
            state, results = step(state, (start, index[0]))
            return state, jax.tree.map(jnp.atleast_1d, results)
        return jax.lax.scan(step, state, (start + jnp.arange(len(index)), index))

    @functools.partial(jax.jit, static_argnums=0)
    def scores(self, state, images):
        return self.model.stateless_call(state[0], state[1], self.normalize(images), training=False)[0]

    def evaluate(self, state):
        """Return the mean cross-entropy and the error in percent on the test images."""
        images, labels = self.test_data
        batches = range(0, len(labels), TEST_BATCH)
        logits = np.concatenate([np.asarray(self.scores(state, images[b : b + TEST_BATCH])) for b in batches])
        logits = logits.astype("float64")
        highest = logits.max(1)
        normalizer = highest + np.log(np.exp(logits - highest[:, None]).sum(1))
        losses = normalizer - logits[np.arange(len(self.test_labels)), self.test_labels]
        return float(losses.mean()), float(100 * np.mean(logits.argmax(1) != self.test_labels))

    def dataset_info(self):
        return {
            "name": self.config.dataset,
            "class_names": list(self.class_names),
            "image_size": list(self.images.shape[1:3]),
            "splits": {"train": len(self.labels), "test": len(self.test_labels)},
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
        }


def save(path, state, seconds):
    """Write a state to a NumPy file, all or nothing."""
    leaves = jax.tree.leaves(state)
    buffer = io.BytesIO()
    # NumPy files hold no bfloat16; every variable of the mixed policy is float32.
    np.savez(buffer, seconds=seconds, **{f"leaf{number}": np.asarray(leaf) for number, leaf in enumerate(leaves)})
    files.write(path, buffer.getvalue())


def restore(path, state):
    """Return the saved state, with the structure of `state`, and the seconds that it took."""
    with np.load(path) as file:
        leaves = [jnp.asarray(file[f"leaf{number}"]) for number in range(len(jax.tree.leaves(state)))]
        return jax.tree.unflatten(jax.tree.structure(state), leaves), float(file["seconds"])


def train(preset, seed):
    """Train one network in its run folder, from where it stopped; return its entry for the results."""
    config = configuration(preset, seed)
    folder = pathlib.Path(FLAGS.out, f"{preset}-seed{seed}")
    finished, checkpoint, metrics = folder / "result.json", folder / "state.npz", folder / "metrics.jsonl"
    data = arrays(FLAGS.data, config.dataset)
    trainer = Trainer(config, data)
    content = {
        "task": "classification",
        "config": dataclasses.asdict(config),
        "dataset": trainer.dataset_info(),
    }
    text = json.dumps(content, indent=2) + "\n"
    if (folder / "config.json").exists() and (folder / "config.json").read_text(encoding="utf-8") != text:
        raise InputError(f"{str(folder)!r} holds a run with another configuration; choose another --out.")
    if finished.exists():
        return json.loads(finished.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / "config.json", text)

    state, records, seconds = trainer.state(), [], 0.0
    if checkpoint.exists():
        state, seconds = restore(checkpoint, state)
        records = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    first = int(np.asarray(jax.tree.leaves(state[2])[0]))
    records = [record for record in records if record["step"] <= first]
    steps_per_call = FLAGS.steps_per_call or (1 if jax.default_backend() == "cpu" else 100)
    bar = tqdm(total=config.steps, initial=first, desc=folder.name, unit="step")
    for start in range(first, config.steps, config.eval_steps):
        began = time.monotonic()
        stop = min(start + config.eval_steps, config.steps)
        calls = []
        for call in range(start, stop, steps_per_call):
            index = indices(seed, call, min(call + steps_per_call, stop), config.batch_size, len(data[1]))
            state, results = trainer.train(state, trainer.data, call, index)
            calls.append(results)
            bar.update(len(index))
        loss, error = (np.concatenate(parts).mean() for parts in zip(*calls, strict=True))
        error *= 100
        test_loss, test_error = trainer.evaluate(state)
        seconds += time.monotonic() - began
        if not np.isfinite(test_loss):
            raise FloatingPointError(f"{folder.name}: the loss is not finite at step {stop}.")
        record = {"step": stop, "loss": round(float(loss), 6), "top1_error": round(float(error), 4)}
        records.append(record | {"val_loss": round(test_loss, 6), "val_top1_error": round(test_error, 4)})
        bar.set_postfix_str(f"training error {error:.2f} %, test error {test_error:.2f} %")
        # Metrics first: those of steps after the saved state are dropped.
        files.write(metrics, "".join(json.dumps(record) + "\n" for record in records))
        save(checkpoint, state, seconds)
    bar.close()

    trainer.assign(state)
    weights.save(trainer.model, folder / "best.weights.h5")  # the last ones: nothing is selected on test images
    result = {
        "preset": preset,
        "model": config.model,
        "dataset": config.dataset,
        "parameters": sum(int(np.prod(variable.shape)) for variable in trainer.model.trainable_variables),
        "seed": seed,
        "steps": config.steps,
        "precision": config.precision,
        "top1_error": records[-1]["top1_error"],
        "val_top1_error": records[-1]["val_top1_error"],
        "seconds": round(seconds, 1),
        "device": jax.devices()[0].device_kind,
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "keras": keras.__version__},
    }
    files.write(finished, json.dumps(result, indent=2) + "\n")
    return result


def main(_):
    try:
        runs = [(preset, int(seed)) for preset in FLAGS.presets for seed in FLAGS.seeds]
        for preset, seed in runs:
            configuration(preset, seed)
        results = []
        for preset, seed in runs:
            results.append(train(preset, seed))
            files.write(pathlib.Path(FLAGS.out, "results.json"), json.dumps(results, indent=2) + "\n")
            print("{preset} seed {seed}: test error {val_top1_error:.2f} % after {steps} steps".format(**results[-1]))
    except (InputError, FloatingPointError) as error:
        raise SystemExit(f"train_zoo.py: {error}") from error


if __name__ == "__main__":
    app.run(main)
