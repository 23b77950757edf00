"""Decoding: the content of a sound file becomes a waveform int16 (n,), of which 32768 would be full scale."""

import numpy as np

from headstart.modalities import Decoded
from headstart.modalities.audio.decoding import sound_of
from headstart.modalities.room import Room
from headstart.modalities.waveform.section import WaveformInput

FULL_SCALE = 32768.0
LEAST_SECONDS = 0.1
"""of a stored waveform: encoders look at a fortieth of a second at once"""


def decode(raw: bytes, given: WaveformInput, *, room: Room | None = None, patience: float | None = None) -> Decoded:
    """The waveform of a file's content, int16 (n,), at `given.rate` and at most `given.seconds` long, and facts on the
    recording, both as `audio.decoding.sound_of` tells; raises UnreadableSample.

    The values of a file of 16 bits at that rate are taken as they are. Silence follows a recording shorter than a tenth
    of a second.
    """
    with sound_of(raw, given.rate, given.seconds, room=room, patience=patience) as (sound, facts):
        sound = np.pad(sound, (0, max(0, round(LEAST_SECONDS * given.rate) - len(sound))))
        values = np.clip(np.rint(sound[: given.samples] * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    return Decoded(values, facts)


def to_sound(values: np.ndarray) -> np.ndarray:
    """Stored values int16 as float32 in [-1, 1]."""
    return values.astype(np.float32) / np.float32(FULL_SCALE)
