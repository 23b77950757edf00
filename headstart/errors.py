"""What can go wrong, in words a user can act on.

Every error that reaches a user is one of these. Its message is one or two sentences that name the cause, the
place and the remedy; the command line prints it and exits with `exit_code`.
"""

# Characters of a name, path or address that a message has room for.
_SHOWN = 200


def shortened(text: str, most: int = _SHOWN) -> str:
    """The text, or its first `most` characters and an ellipsis: for names that a message repeats."""
    return text if len(text) <= most else f"{text[:most]}…"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, `shortened`, or its kind where it has none: libraries append advice and
    traces."""
    return shortened((str(error).strip().splitlines() or [type(error).__name__])[0])


class HeadstartError(Exception):
    """A failure that headstart explains. Exit code 1: the work was started and failed."""

    exit_code = 1


class InputError(HeadstartError):
    """The recipe, the data, a reference or an argument is not usable. Exit code 2: nothing was started."""

    exit_code = 2


class MissingData(InputError):  # noqa: N818 - a state of the data
    """There is nothing where data should lie, and nothing tells which data that would be."""
