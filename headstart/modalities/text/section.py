"""The recipe's section of what is read of a text."""

from typing import Annotated, Literal

from pydantic import Field

from headstart.sections import Section

# English has 4 to 5 bytes a token, markup and rare words fewer; long runs of spaces more.
_BYTES_PER_TOKEN = 16


class TextInput(Section):
    """`encoding` is that of files without a byte order mark, which says it itself. `length` is the number of tokens
    that a network reads of each text, from its beginning; 16 bytes of UTF-8 are stored for each of them."""

    encoding: Annotated[
        Literal["utf-8", "utf-16", "latin-1", "windows-1252"],
        Field(description="of files without a byte order mark"),
    ] = "utf-8"
    length: Annotated[int, Field(ge=8, le=4096, description="tokens that are read of each text")] = 256

    @property
    def most_bytes(self) -> int:
        """The number of bytes of UTF-8 that are stored of a text at most."""
        return _BYTES_PER_TOKEN * self.length
