"""Train Faster R-CNN on a folder of images with boxes, and report its average precision once on a test split.

    python examples/train_detector.py --preset=bccd_resnet50 --data=BCCD --weights=r50.weights.h5 --workdir=runs/bccd
    python examples/train_detector.py --preset=bccd_resnet50 --data=BCCD --workdir=runs/smoke --steps=2   # a smoke run

--data is a folder in the layout of PASCAL VOC or of COCO. The same command again goes on with an interrupted run; each
field of `DetectorConfig` is a flag.
"""

import sys

from keras_resnet import cli

if __name__ == "__main__":
    sys.exit(cli.run("train-detector", sys.argv[1:]))
