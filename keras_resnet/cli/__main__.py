"""The entry of the command: `keras-resnet`, and `python -m keras_resnet.cli`."""

import sys


def main() -> int:
    """Run the command; Ctrl-C while it is imported ends it in one line too."""
    try:
        from keras_resnet.cli import main as command

        return command.main()
    except KeyboardInterrupt:
        print("keras-resnet: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
