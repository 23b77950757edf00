"""The command line. It imports nothing heavy before it knows which command is wanted."""

import argparse
import atexit
import errno
import gc
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from headstart import terminal
from headstart.errors import HeadstartError, InputError, shortened
from headstart.version import __version__
from headstart_pipelines.commands import (
    check,
    compare,
    compile,
    lineage,
    predict,
    prepare,
    promotion,
    rank,
    run,
    runs,
    schedule,
    submit,
    ui,
)

_COMMAND_WIDTH = 13
# In the order in which they are listed.
_GROUPS = (check, prepare, rank, run, compile, submit, runs, schedule, compare, promotion, lineage, ui, predict)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits: 0 done, 1 the work failed, 2 the input is not usable."""
    # At its end Python would search all that torch and mlflow made for garbage, which takes a second or two.
    atexit.register(gc.freeze)
    # Pillow warns of files that it decodes well, or refuses.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        code = _answer(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a pipe, head for instance, had enough; that is no failure of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _answer(arguments: Sequence[str] | None) -> int:
    """Runs one command; its exit code."""
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as ended:
        # After --help, --version or wrong usage.
        return int(ended.code or 0)
    try:
        options.command(options)
    except HeadstartError as error:
        if options.debug:
            raise
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:
        if options.debug:
            raise
        from headstart.tracking.client import explanation

        if known := explanation(error) or _of_the_system(error):
            _say(str(known))
            return known.exit_code
        first_line = str(error).strip().partition("\n")[0]
        _say(f"{type(error).__name__}: {first_line}; --debug shows where.")
        return 1
    return 0


# What helps against what the operating system refuses, whichever file it is.
_REMEDIES = {
    errno.ENAMETOOLONG: "give a shorter one",
    errno.ENOSPC: "make room on that disk, then run again",
    errno.EDQUOT: "make room in your share of that disk, then run again",
    errno.EROFS: "choose a place that can be written",
    errno.EACCES: "see who owns it, or choose another place",
    errno.EPERM: "see who owns it, or choose another place",
}


def _of_the_system(error: Exception) -> HeadstartError | None:
    """Explain the operating system's `error` about a file; None for one that a user cannot mend."""
    if not isinstance(error, OSError) or error.errno not in _REMEDIES:
        return None
    name = str(error.filename or "")
    shown = shortened(name)
    kind = InputError if error.errno == errno.ENAMETOOLONG else HeadstartError
    return kind(f"{shown + ': ' if shown else ''}{error.strerror}; {_REMEDIES[error.errno]}.")


def _say(message: str) -> None:
    """Writes a message, which may hold names that others gave and addresses with passwords, fit to be shown."""
    print(f"headstart: {terminal.message(message)}", file=sys.stderr)


class _Help(argparse.HelpFormatter):
    """Help with a line for each command; argparse forgets that commands are indented when it measures the longest."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        self._action_max_length = max(self._action_max_length, _COMMAND_WIDTH)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headstart",
        description="Transfer a model from one domain to another, and prove that it helped.",
        epilog="Begin with: headstart check RECIPE, then headstart run RECIPE. "
        "Each command explains itself: headstart run --help",
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=f"headstart {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for group in _GROUPS:
        for command in group.COMMANDS:
            command.add_to(commands)
    return parser


if __name__ == "__main__":
    main()
