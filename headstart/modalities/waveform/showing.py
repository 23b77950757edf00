"""Waveforms as people see and hear them: a spectrogram and a player."""

import numpy as np

from headstart.modalities.audio import showing
from headstart.modalities.audio.section import AudioInput
from headstart.modalities.audio.spectrogram import to_map
from headstart.modalities.waveform.decoding import to_sound
from headstart.modalities.waveform.section import WaveformInput

_LEAST_FRAMES = 16


def as_html(values: np.ndarray, alt: str, given: WaveformInput, *, small: bool = False) -> str:
    """A stored waveform, int16 (n,), as a picture of its spectrogram called `alt` and a player; `small`: the picture
    alone."""
    shown = AudioInput(rate=given.rate)
    frames = max(_LEAST_FRAMES, len(values) // shown.hop)
    sound = np.pad(to_sound(values), (0, max(0, frames * shown.hop - len(values))))[: frames * shown.hop]
    return showing.as_html(to_map(sound, shown)[:, :, None], alt, shown, small=small, sound=sound)


def examples(given: WaveformInput) -> list[bytes]:
    """Two WAV files of at most two seconds: a tone that rises and one that falls."""
    return showing.examples(AudioInput(rate=given.rate, seconds=max(0.4, min(given.seconds, 2.0))))
