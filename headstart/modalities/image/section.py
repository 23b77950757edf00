"""The recipe's section of what is read of a picture."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from headstart.sections import Section

Fit = Literal["crop", "pad", "stretch"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


class ImageInput(Section):
    """`size` is the side of the stored pictures in pixels and `channels` their number, 1 grey or 3 RGB; unset, they
    follow from the architecture and from the pictures. `fit` says what becomes of pictures that are no squares: `crop`
    keeps the centred square and loses the rest, `pad` lays the whole picture on black, `stretch` changes its shape.
    `resize` and `interpolation` are those of a published model's card: the shorter side (with `stretch`, each side) is
    resized to so many pixels, and the centred square of `size` is kept."""

    size: Annotated[int, Field(ge=8, le=1024)] | None = None
    channels: Literal[1, 3] | None = None
    fit: Fit = "crop"
    resize: Annotated[int, Field(ge=8, le=2048)] | None = None
    interpolation: Interpolation | None = None

    @model_validator(mode="after")
    def _has_a_use(self) -> Self:
        if self.resize is None and self.interpolation is not None:
            raise ValueError("interpolation: it is that of resize; set resize too, or leave it out")
        if self.resize is not None and self.fit == "pad":
            raise ValueError("resize: with fit: pad the whole picture is kept; leave one of them out")
        if self.resize is not None and self.size is not None and self.resize < self.size:
            raise ValueError(f"resize: {self.resize} pixels hold no square of size: {self.size}; raise it")
        return self

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Stores and models of earlier versions had no such keys, and what they hold has not changed.
        unset = [name for name in ("resize", "interpolation") if getattr(self, name) is None]
        return {name: value for name, value in handler(self).items() if name not in unset}
