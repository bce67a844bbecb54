"""Write the network of a run as a TFLite file.

python export/to_tflite.py --workdir=runs/r20 --out=r20.tflite
"""

import sys

from keras_resnet import cli

if __name__ == "__main__":
    sys.exit(cli.run("export", ["--format=tflite", *sys.argv[1:]]))
