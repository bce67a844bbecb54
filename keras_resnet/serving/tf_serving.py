"""Configuration files that start TensorFlow Serving on a folder of versions."""

from __future__ import annotations

import pathlib
import string

from keras_resnet import files

BATCHING_PARAMETERS = """\
# Read with --enable_batching --enable_per_model_batching_parameters. Batches are padded to the next of these sizes.
max_batch_size { value: 32 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 100 }
allowed_batch_sizes: 1
allowed_batch_sizes: 2
allowed_batch_sizes: 4
allowed_batch_sizes: 8
allowed_batch_sizes: 16
allowed_batch_sizes: 32
"""

MODELS_CONFIG = string.Template("""\
# For --model_config_file; base_path is this folder inside the container of compose.yaml.
model_config_list {
  config {
    name: "$name"
    base_path: "/models/$name"
    model_platform: "tensorflow"
    model_version_policy { latest { num_versions: 1 } }
  }
}
""")

COMPOSE = string.Template("""\
# docker compose up: serve the newest version of this folder; newer ones are loaded as they appear.
services:
  serving:
    image: tensorflow/serving:$${TF_SERVING_VERSION:-latest}
    command:
      - --model_config_file=/models/$name/models.config
      # The two flags below batch the requests of different clients. An image that cannot be decoded then fails all
      # requests of its batch: check images first, or leave batching off.
      # - --enable_batching
      # - --enable_per_model_batching_parameters
    environment:
      # With the C library's default, memory grows with each version that is loaded and dropped.
      MALLOC_ARENA_MAX: "2"
    ports:
      - "8500:8500" # gRPC
      - "8501:8501" # REST
    volumes:
      - .:/models/$name:ro
""")


def write_configuration(base: pathlib.Path) -> None:
    """Write `models.config` and `compose.yaml` to a folder of versions, unless they exist."""
    for file, template in (("models.config", MODELS_CONFIG), ("compose.yaml", COMPOSE)):
        if not (base / file).exists():
            files.write(base / file, template.substitute(name=base.absolute().name))
