"""Credentials in what people are shown, and in what is sent."""

import os
import re

from headstart.errors import InputError

_USER_IN_AN_ADDRESS = re.compile(r"(?<=://)[^\s/@'\"]+@")


def without_password(address: str) -> str:
    """An address without the user and password that it may hold, fit to be shown."""
    scheme, _, rest = address.partition("://")
    user, at, place = rest.rpartition("@")
    # Whoever forgets to encode a password puts any character there, a slash too. A path may have an @ as well.
    if not at or rest.startswith("/") or ("/" in user and ":" not in user):
        return address
    return f"{scheme}://{place}"


def without_passwords(text: str) -> str:
    """A message, of another library for instance, whose addresses are without user and password."""
    return _USER_IN_AN_ADDRESS.sub("", text)


def is_sendable(secret: str) -> bool:
    """Whether a secret can be part of an HTTP header. Libraries refuse what cannot with a message that shows it."""
    return secret.isascii() and secret.isprintable()


def require_sendable(*variables: str) -> None:
    """InputError, which does not show it, if a variable of the environment holds a secret that cannot be sent."""
    for variable in variables:
        if not is_sendable(os.environ.get(variable, "")):
            raise InputError(
                f"{variable} holds a line break or another character that cannot be sent; write it as one line of "
                "ASCII. A file that it was read from may end in a line break."
            )
