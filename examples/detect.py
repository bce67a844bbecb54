"""Draw the detections of a trained detector on photographs.

python examples/detect.py --workdir=runs/bccd PHOTO...
"""

import sys

from keras_resnet.cli import main as cli

if __name__ == "__main__":
    sys.exit(cli.run("predict", sys.argv[1:]))
