"""Waveforms as people see and hear them: a spectrogram and a player."""

import numpy as np

from headstart.modalities.audio import showing
from headstart.modalities.audio.section import AudioInput
from headstart.modalities.audio.spectrogram import to_map
from headstart.modalities.waveform.decoding import to_sound
from headstart.modalities.waveform.section import WaveformInput

_LEAST_FRAMES = 16


def as_html(
    values: np.ndarray, alt: str, given: WaveformInput, *, heat: np.ndarray | None = None, small: bool = False
) -> str:
    """A stored waveform, int16 (n,), as a picture of its spectrogram called `alt` and a player; `small`, or in grey
    under its heat (n,) in [0, 1]: the picture alone."""
    shown = AudioInput(rate=given.rate)
    frames = max(_LEAST_FRAMES, len(values) // shown.hop)
    length = frames * shown.hop
    picture = to_map(_of_length(to_sound(values), length), shown)[:, :, None]
    if heat is not None:
        of_frames = _of_length(heat, length).reshape(frames, shown.hop).mean(axis=1)
        heat = np.repeat(of_frames[:, None], picture.shape[1], axis=1)
    return showing.as_html(picture, alt, shown, heat=heat, small=small, sound=_of_length(to_sound(values), length))


def _of_length(values: np.ndarray, length: int) -> np.ndarray:
    return np.pad(values, (0, max(0, length - len(values))))[:length]


def examples(given: WaveformInput) -> list[bytes]:
    """Two WAV files of at most two seconds: a tone that rises and one that falls."""
    return showing.examples(AudioInput(rate=given.rate, seconds=max(0.4, min(given.seconds, 2.0))))
