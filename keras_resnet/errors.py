"""The one exception that means "the caller's input is wrong", so that command lines can answer it in one sentence."""


class InputError(ValueError):
    """A bad argument: the message names the argument, what came and what is allowed.

    It is a `ValueError`, so library users need not know it; command lines print it without a traceback and exit with 1.
    """


def check_choice(name: str, value: object, allowed: object) -> None:
    """Raise `InputError` unless `value` is one of `allowed`."""
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}.")
