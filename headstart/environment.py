"""Variables of this process's environment, for a while."""

import contextlib
import os
from collections.abc import Iterator, Mapping

from headstart.errors import InputError


def require_temporary_folder() -> None:
    """InputError where TMPDIR names no folder that can be written into: Python takes another, a step's shell ends."""
    folder = os.environ.get("TMPDIR")
    if folder and not (os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)):
        raise InputError(f"TMPDIR is {folder}, which is no folder that steps can write into; make it, or unset TMPDIR.")


def bytes_given(variable: str, *, such_as: int) -> int | None:
    """Return the number of bytes that a variable gives; None where it is not set.

    Raises:
        InputError: it is not a whole number; `such_as` is an example.
    """
    given = os.environ.get(variable)
    if not given:
        return None
    if not (given.isascii() and given.isdecimal()):
        raise InputError(f"{variable} is '{given}'; give a whole number of bytes, such as {such_as}.")
    return int(given)


@contextlib.contextmanager
def environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables for the length of the body; None unsets one. Afterwards they are as before."""
    before = {key: os.environ.get(key) for key in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for key, value in values.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value
