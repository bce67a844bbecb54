"""Train Faster R-CNN on a folder of images with boxes.

    python examples/train_detector.py --preset=bccd_resnet50 --data=BCCD --backbone_weights=imagenet --workdir=runs/bccd
    python examples/train_detector.py --preset=bccd_resnet50 --data=BCCD --steps=2 --workdir=runs/smoke   # a smoke run

--data is a folder in the layout of PASCAL VOC, COCO, Roboflow or YOLO. Rerun the same command to resume an
interrupted run. Afterwards `keras-resnet evaluate --workdir=runs/bccd --split=test` reports the average precision.
"""

import sys

from keras_resnet.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", "--task=detection", *sys.argv[1:]]))
