"""Draw the detections of a trained detector on photographs.

python examples/detect.py --workdir=runs/bccd PHOTO...
"""

import sys

from keras_resnet.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
