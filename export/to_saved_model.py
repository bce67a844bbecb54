"""Write the network of a run as a SavedModel for TF Serving.

python export/to_saved_model.py --workdir=runs/r20 --out=models/r20/1
"""

import sys

from keras_resnet import cli

if __name__ == "__main__":
    sys.exit(cli.run("export", ["--format=saved_model", *sys.argv[1:]]))
