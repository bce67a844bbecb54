"""`python -m keras_resnet.cli`."""

import sys

from keras_resnet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
