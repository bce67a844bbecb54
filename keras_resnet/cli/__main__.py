"""The entry of the command: `keras-resnet`, and `python -m keras_resnet.cli`."""

import sys


def main() -> int:
    """Run the command; Ctrl-C while it is imported ends it in one line too."""
    try:
        from keras_resnet.cli import exits
        from keras_resnet.cli import main as command

        exits.open_standard_streams()
        try:
            code = command.main()
            exits.flush()
            return code
        except BrokenPipeError:  # of the help, which needs no verb
            return exits.broken_pipe()
    except KeyboardInterrupt:
        print("keras-resnet: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
