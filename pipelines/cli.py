"""The command line. It imports nothing heavy before it knows which command is wanted."""

import argparse
import errno
import gc
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from headstart import terminal
from headstart.errors import HeadstartError, InputError, MissingData, shortened
from headstart.installation import missing_extra, require_platform
from headstart.process import settle
from headstart.version import __version__
from headstart_pipelines.commands import (
    check,
    clean,
    compare,
    compile,
    completion,
    diff,
    evaluate,
    importing,
    init,
    lineage,
    monitor,
    predict,
    prepare,
    promotion,
    rank,
    report,
    run,
    runs,
    schedule,
    search,
    serve,
    submit,
    ui,
)
from headstart_pipelines.commands.arguments import bringing_data, meant

_COMMAND_WIDTH = 13
# In the order in which they are listed.
_GROUPS = {
    "on this machine": (run, search, init, check, compare, report, ui, clean, completion),
    "data": (prepare, rank),
    "models": (importing, predict, evaluate, serve, promotion, lineage, diff, monitor),
    "on a cluster": (compile, submit, runs, schedule),
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits: 0 done, 1 the work failed, 2 the input is not usable."""
    # Python searches for garbage after every 700 new objects, and importing mlflow alone makes a million that stay: a
    # quarter of the time to the first word.
    gc.set_threshold(100_000, 50, 100)
    settle()
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
        require_platform()
        options.command(options)
    except HeadstartError as error:
        if options.debug:
            raise
        _say(str(error))
        if isinstance(error, MissingData) and (commands := bringing_data(getattr(options, "recipe", None))):
            print(f"This brings them ({options.recipe}):", *commands, sep="\n    ", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:
        if options.debug:
            raise
        known: HeadstartError | None = missing_extra(error) if isinstance(error, ModuleNotFoundError) else None
        if known is None:
            from headstart.tracking.client import explanation

            known = explanation(error) or _of_the_system(error)
        if known:
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
    """Help that lists the commands in their groups."""

    def _format_action(self, action: argparse.Action) -> str:
        if not isinstance(action, argparse._SubParsersAction):
            return super()._format_action(action)
        summaries = {each.dest: each.help for each in action._choices_actions}
        lines = []
        for title, modules in _GROUPS.items():
            lines.append(f"  {title}:")
            lines += [
                f"    {command.name:<{_COMMAND_WIDTH}}{summaries[command.name]}"
                for module in modules
                for command in module.COMMANDS
            ]
        return "\n".join(lines) + "\n"


class _Parser(argparse.ArgumentParser):
    """A parser that says what a mistyped command or option is likely to mean."""

    def error(self, message: str) -> NoReturn:
        wrong = re.match(r"argument COMMAND: invalid choice: '(.*?)'", message)
        if wrong:
            message = (
                f"there is no command {wrong[1]!r}{meant(wrong[1], self._commands())}; headstart --help lists them"
            )
        super().error(message)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:  # type: ignore[override]
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            options = [name for action in self._actions for name in action.option_strings]
            hint = meant(unknown[0].partition("=")[0], options) if unknown[0].startswith("-") else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found, unknown

    def _commands(self) -> list[str]:
        return [name for action in self._actions if action.dest == "command_name" for name in action.choices or ()]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="headstart",
        description="Transfer a model from one domain to another, and prove that it helped.",
        epilog="Begin with: headstart demo. With data of your own: headstart init photos/, then headstart run RECIPE. "
        "Each command explains itself: headstart run --help",
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=f"headstart {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command_name", required=True)
    for modules in _GROUPS.values():
        for module in modules:
            for command in module.COMMANDS:
                command.add_to(commands)
    return parser


if __name__ == "__main__":
    main()
