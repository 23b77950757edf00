"""The recipe's section of what is read of a recording that is kept as its waveform."""

from typing import Annotated

from pydantic import Field

from headstart.sections import Section


class WaveformInput(Section):
    """`rate` is the sampling rate in Hz that recordings are converted to, which has to be that of the source. `seconds`
    are read of each: the loudest of a longer one; a shorter one stays as long as it is."""

    rate: Annotated[
        int, Field(ge=4000, le=48000, description="Hz that recordings are converted to; half of it is heard")
    ] = 16000
    seconds: Annotated[float, Field(ge=0.1, le=30, description="length that is read of each recording")] = 10.0

    @property
    def samples(self) -> int:
        """The largest number of samples of a stored recording."""
        return round(self.rate * self.seconds)
