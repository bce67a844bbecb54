"""Draw the boxes that a trained detector finds in photographs.

python examples/detect.py --workdir=runs/bccd PHOTO...
"""

import sys

from keras_resnet.cli import main as cli
from keras_resnet.detection import commands

if __name__ == "__main__":
    sys.exit(cli.run("predict", sys.argv[1:], commands.VERBS))
