"""The recipe's section of what is read of a picture."""

from typing import Annotated, Literal

from pydantic import Field

from headstart.sections import Section

Fit = Literal["crop", "pad", "stretch"]


class ImageInput(Section):
    """`size` is the side of the stored pictures in pixels and `channels` their number, 1 grey or 3 RGB; unset, they
    follow from the architecture and from the pictures. `fit` says what becomes of pictures that are no squares: `crop`
    keeps the centred square and loses the rest, `pad` lays the whole picture on black, `stretch` changes its shape."""

    size: Annotated[int, Field(ge=8, le=1024)] | None = None
    channels: Literal[1, 3] | None = None
    fit: Fit = "crop"
