"""The recipe's section of what is read of a recording."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from headstart.sections import Section

_LEAST_FRAMES, _MOST_FRAMES = 16, 1024


class AudioInput(Section):
    """`rate` is the sampling rate in Hz that recordings are converted to; a model hears frequencies up to its half.
    `seconds` are read of each: the loudest of a longer one; a shorter one is padded with silence on both sides. They
    are stored as `mels` bands of a log-mel spectrogram with a frame every `hop_ms` milliseconds, 16 to 1024 in all."""

    rate: Annotated[
        int, Field(ge=4000, le=48000, description="Hz that recordings are converted to; half of it is heard")
    ] = 16000
    seconds: Annotated[float, Field(ge=0.1, le=30, description="length that is read of each recording")] = 2.0
    mels: Annotated[int, Field(ge=16, le=256, description="mel bands of the spectrogram")] = 64
    hop_ms: Annotated[float, Field(ge=5, le=100, description="milliseconds from one frame to the next")] = 20.0

    @model_validator(mode="after")
    def _has_a_map(self) -> Self:
        if not _LEAST_FRAMES <= self.frames <= _MOST_FRAMES:
            raise ValueError(
                f"seconds: {self.seconds:g} with hop_ms: {self.hop_ms:g} are {self.frames} frames, but {_LEAST_FRAMES} "
                f"to {_MOST_FRAMES} can be stored; change one of them"
            )
        return self

    @property
    def frames(self) -> int:
        """The number of frames of a stored recording."""
        return round(self.seconds * 1000 / self.hop_ms)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, mels, 1), that of a stored recording."""
        return self.frames, self.mels, 1

    @property
    def hop(self) -> int:
        """The distance of two frames in samples at `rate`."""
        return round(self.rate * self.hop_ms / 1000)

    @property
    def samples(self) -> int:
        """The number of samples at `rate` that a stored recording is made of."""
        return self.frames * self.hop
