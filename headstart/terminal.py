"""Safe terminal output: a name, a label or a server's message may contain control sequences."""

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from shutil import get_terminal_size

from headstart.credentials import without_passwords


def printable(text: str, *, keep: str = "") -> str:
    """Return the text with unprintable characters replaced; those in `keep` stay."""
    return "".join(each if each.isprintable() or each in keep else "�" for each in text)


def message(text: str) -> str:
    """Return a message of one or more lines without control sequences and passwords."""
    return without_passwords(printable(text, keep="\n\t"))


def announce(text: str) -> None:
    """Say on standard error what a command is about to wait for, if that is a terminal, where a person waits too."""
    if sys.stderr.isatty():
        print(f"headstart: {message(text)}", file=sys.stderr, flush=True)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show on standard error what a command waits for, if that is a terminal; the line goes when the wait is over."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield
        return
    # A line that wraps could not be taken back.
    print(f"headstart: {message(text)} …"[: get_terminal_size().columns - 1], end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def lines_of(chunks: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a text, without their ends, from chunks that may end within a line."""
    rest = ""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split("\n")
        yield from whole
    if rest:
        yield rest


class _Printable(logging.Formatter):
    """Formatter that applies `message` to another formatter's output."""

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return message(self._inner.format(record))


def make_printable(*handlers: logging.Handler | None) -> None:
    """Make these log handlers write only through `message`."""
    for handler in handlers:
        if handler and not isinstance(handler.formatter, _Printable):
            handler.setFormatter(_Printable(handler.formatter))
