"""Write the network of a run as TFLite files: float32, float16, dynamic range and int8, with a report.

python export/to_tflite.py --workdir=runs/r20 --out=models/r20_tflite
"""

import sys

from keras_resnet.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["export", "--format=tflite", *sys.argv[1:]]))
