"""Publish the network of a run as the next version of a SavedModel for TensorFlow Serving.

python export/to_saved_model.py --workdir=runs/r20 --out=models/r20
"""

import sys

from keras_resnet.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["export", "--format=saved_model", *sys.argv[1:]]))
