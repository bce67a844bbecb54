"""Packaging. KERAS_RESNET_TENSORFLOW chooses the TensorFlow to require: tensorflow, tensorflow-cpu or none."""

import os
import pathlib
import re

from setuptools import find_packages, setup

here = pathlib.Path(__file__).parent
version = re.search(r'__version__ = "(.+)"', (here / "keras_resnet/__init__.py").read_text(encoding="utf-8")).group(1)
tensorflow = os.environ.get("KERAS_RESNET_TENSORFLOW", "tensorflow")

# Two stacks are tested, docs/stacks.md: the newest, and Keras 2.15 for the extra `addons`; none between them.
not_tensorflow = "".join(f",!=2.{minor}.*" for minor in range(16, 21))
not_keras = "".join(f",!=3.{minor}.*" for minor in range(15))


def on_tensorflow(versions):
    return [] if tensorflow == "none" else [tensorflow + versions]


setup(
    name="keras-resnet-zoo",
    version=version,
    description="Deep residual learning for Keras: networks, training, evaluation and export of He et al. (2015)",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The keras_resnet developers",
    license="Apache-2.0",
    keywords=["deep residual learning", "ResNet", "Keras", "TensorFlow", "JAX", "PyTorch", "Faster R-CNN", "DeepLab"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=["keras_resnet", "keras_resnet.*"]),
    package_data={
        "keras_resnet": ["py.typed"],
        "keras_resnet.evaluation": ["page.html"],
        "keras_resnet.models": ["imagenet_classes.csv"],
        "keras_resnet.serving": ["web.html", "web.js"],
        "keras_resnet.models.weights": ["zoo/*/*.json", "zoo/*/*.md", "zoo/*/*.safetensors", "zoo/*.csv"],
    },
    entry_points={"console_scripts": ["keras-resnet=keras_resnet.cli.__main__:main"]},
    install_requires=[
        *on_tensorflow(">=2.15" + not_tensorflow),
        "keras>=2.15" + not_keras,
        "absl-py",
        "google-crc32c",
        "h5py",
        "matplotlib",
        "numpy",
        "pillow",
        "pyarrow",
        "safetensors",
        "scikit-learn",
        "tensorboard",
        "tensorflow-datasets",
        "tqdm",
    ],
    extras_require={
        # tensorflow-datasets does not import with a newer tensorflow-metadata and the protobuf of TensorFlow 2.15.
        "addons": [
            *on_tensorflow("==2.15.*"),
            "keras==2.15.*",
            "tensorflow-addons==0.23.*",
            "tensorflow-metadata<1.18",
        ],
        "detection": ["pycocotools"],
        "hub": ["huggingface_hub"],
        "notebooks": ["ipykernel", "nbclient"],
        # The clients' tested versions; MLflow's own store is a database.
        "mlflow": ["alembic", "mlflow-skinny==3.17.*", "sqlalchemy"],
        "wandb": ["wandb==0.31.*"],
        "onnx": ["onnxruntime", "tf2onnx"],
        "openvino": ["openvino"],
        "search": ["optuna==5.*"],
        "docs": ["mkdocs-material", "mkdocstrings[python]"],
        "tflite": ["ai-edge-litert"],
        "torch": ["torch>=2.6"],
        "test": [
            "ai-edge-litert",
            "huggingface_hub",
            "mypy",
            "onnxruntime",
            "openvino",
            "optuna",
            "playwright",
            "psutil",
            "pytest",
            "pytest-xdist",
            "ruff",
            "tf2onnx",
            "torch>=2.6",
            "torchvision>=0.21",
        ],
    },
)
