"""The wheel in an environment of its own, far from the repository: installed, and used as a new user would. By hand.

    python tests/clean_install.py [--steps=20] [--keep=FOLDER]

Builds the wheel from a copy of the sources, makes a virtual environment, installs the wheel and what it needs in the
tested versions, and runs the console command on the digits: train, evaluate, export, predict. Prints what each step
said and the seconds it took; exits with 1 at the first that fails. `test_scripts.py` does the same in the environment
that is there.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import venv

ROOT = pathlib.Path(__file__).parent.parent

DIGIT = """
from PIL import Image
from keras_resnet.data import sources
Image.fromarray(sources.load("digits").examples("test").images[0]).save("digit.png")
"""


def build_wheel(folder: pathlib.Path, *, isolated: bool = True, python: str = sys.executable) -> pathlib.Path:
    """Build the wheel from a copy of the sources, so that nothing is left in the repository and nothing stale gets in.

    Args:
        folder: where the copy and the wheel go.
        isolated: let pip install setuptools for the build; False takes that of `python`'s environment.
        python: whose pip builds.
    """
    sources = folder / "sources"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "keras_resnet", sources / "keras_resnet", ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    command = [python, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += [] if isolated else ["--no-build-isolation"]
    environment = {**os.environ, "KERAS_RESNET_TENSORFLOW": "tensorflow-cpu"}
    subprocess.run([*command, "--wheel-dir", str(folder), str(sources)], check=True, env=environment)
    (wheel,) = folder.glob("*.whl")
    return wheel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="training steps")
    parser.add_argument("--keep", help="folder to work in and keep; by default a temporary one")
    options = parser.parse_args()
    folder = pathlib.Path(options.keep or tempfile.mkdtemp()).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        walk(folder, options.steps)
    finally:
        if not options.keep:
            shutil.rmtree(folder)


def walk(folder: pathlib.Path, steps: int) -> None:
    wheel = build_wheel(folder)
    venv.create(folder / "env", with_pip=True)
    binaries = folder / "env" / "bin"
    work = folder / "work"
    work.mkdir()

    def step(*command) -> None:
        start = time.perf_counter()
        print("$", *command, flush=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment |= {"TF_CPP_MIN_LOG_LEVEL": "1"}
        subprocess.run([binaries / command[0], *command[1:]], check=True, cwd=work, env=environment)
        print(f"  {time.perf_counter() - start:.1f} s", flush=True)

    constraints = f"--constraint={ROOT / 'constraints.txt'}"
    step("pip", "install", "--quiet", "--disable-pip-version-check", constraints, str(wheel))
    step("python", "-c", "import keras_resnet; print(keras_resnet.__file__)")
    step("keras-resnet", "train", "--preset=digits_resnet20", f"--steps={steps}", "--decay_steps=", "--workdir=run")
    step("keras-resnet", "evaluate", "--workdir=run", "--out=report")
    step("keras-resnet", "export", "--workdir=run", "--out=models/digits")
    step("python", "-c", DIGIT)
    step("keras-resnet", "predict", "--workdir=run", "digit.png")


if __name__ == "__main__":
    main()
