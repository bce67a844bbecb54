"""Execute the notebooks of this folder and keep their outputs: `make notebooks`.

    pip install 'keras-resnet-zoo[tflite,notebooks]'
    python execute.py [NAME.ipynb...]

What libraries write to stderr is left out, and the folder of the notebooks is cut off paths.
"""

from __future__ import annotations

import os
import pathlib
import sys

import nbformat
from nbclient import NotebookClient

FOLDER = pathlib.Path(__file__).parent


def execute(path: pathlib.Path) -> None:
    """Execute a notebook from top to bottom in the current folder, and write it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=None, kernel_name="python3", record_timing=False).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                if output.output_type == "stream":
                    output.text = output.text.replace(f"{os.getcwd()}/", "")
    # The same file for any version of Python.
    notebook.metadata.language_info = {"name": "python"}
    path.write_text(nbformat.writes(notebook, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(FOLDER.glob("*.ipynb")):
        print(name, flush=True)
        execute(pathlib.Path(name))
