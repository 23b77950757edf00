"""Credentials: removed from text that is shown, checked before they are sent."""

import os
import re

from headstart.errors import InputError

_USER_IN_AN_ADDRESS = re.compile(r"(?<=://)[^\s/@'\"]+@")


def without_password(address: str) -> str:
    """Return an address without user and password."""
    scheme, _, rest = address.partition("://")
    user, at, place = rest.rpartition("@")
    # An unencoded password may contain any character, also a slash. A path may contain an @ too.
    if not at or rest.startswith("/") or ("/" in user and ":" not in user):
        return address
    return f"{scheme}://{place}"


def without_passwords(text: str) -> str:
    """Return a message, for example of another library, with user and password removed from its addresses."""
    return _USER_IN_AN_ADDRESS.sub("", text)


def is_sendable(secret: str) -> bool:
    """Return whether a secret can be part of an HTTP header; libraries refuse others with a message that shows the
    secret."""
    return secret.isascii() and secret.isprintable()


def require_sendable(*variables: str) -> None:
    """Check that these environment variables can be sent in an HTTP header.

    Raises:
        InputError: one cannot; the message does not contain it.
    """
    for variable in variables:
        if not is_sendable(os.environ.get(variable, "")):
            raise InputError(
                f"{variable} holds a line break or another character that cannot be sent; write it as one line of "
                "ASCII. A file that it was read from may end in a line break."
            )
