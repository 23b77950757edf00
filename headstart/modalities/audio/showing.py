"""Recordings as people see and hear them: in reports, and as the example request of a registered model."""

import base64
import io
import wave

import numpy as np
from markupsafe import Markup

from headstart.html import image_uri
from headstart.modalities.audio.decoding import resampled
from headstart.modalities.audio.recordings import Read
from headstart.modalities.audio.section import AudioInput
from headstart.modalities.audio.spectrogram import to_sound

# A player's sound is that of a telephone: a page with dozens of them stays small.
_PLAYED_RATE = 8000
_PLAYED_SECONDS = 4
# From silence to loud; the lightness rises throughout, so that they are told apart in grey and with any colour vision.
_COLOURS = np.array([[8, 8, 32], [84, 22, 104], [186, 54, 85], [249, 142, 9], [252, 255, 164]], dtype=np.float64)
_RED = np.array([255.0, 60.0, 0.0])


def as_html(
    values: np.ndarray,
    alt: str,
    given: AudioInput,
    *,
    heat: np.ndarray | None = None,
    small: bool = False,
    sound: np.ndarray | None = None,
) -> str:
    """A map, uint8 (frames, mels, 1), as a picture with time to the right and pitch upwards, called `alt`, and a player
    of the `sound` it was made of, float32 (n,) at `given.rate`, or of what is left of it in the map. `small`, or in
    grey under its heat (frames, mels) in [0, 1]: the picture alone."""
    picture = np.ascontiguousarray(np.flip(_coloured(values, heat).swapaxes(0, 1), axis=0))
    image = Markup('<img src="{}" alt="{}">').format(image_uri(picture), alt)
    if small or heat is not None:
        return image
    # As wide as its place, however narrow: a player would otherwise have the width that the browser gives it.
    player = Markup('<audio controls preload="none" src="{}" aria-label="{}" style="{}"></audio>').format(
        _sound_uri(values, given, sound), f"what a model hears of {alt}", "display: block; height: 2rem; width: 100%"
    )
    return Markup('<div style="{}">{}{}</div>').format("min-width: 0; max-width: 14rem", image, player)


def _coloured(values: np.ndarray, heat: np.ndarray | None) -> np.ndarray:
    """uint8 (frames, mels, 3). The contrast is the map's own: quiet recordings are seen too."""
    low, high = float(values.min()), float(values.max())
    shares = (values[..., 0] - low) / max(high - low, 1)
    if heat is not None:
        strength = 0.75 * heat[:, :, None]
        shown = 255 * shares[:, :, None] * (1 - strength) + _RED * strength
    else:
        steps = np.linspace(0, 1, len(_COLOURS))
        shown = np.stack([np.interp(shares, steps, colour) for colour in _COLOURS.T], axis=2)
    return np.clip(shown, 0, 255).astype(np.uint8)


def _sound_uri(values: np.ndarray, given: AudioInput, sound: np.ndarray | None) -> str:
    """A `data:` URI of a WAV file of at most four seconds, as loud as it can be."""
    rate = min(given.rate, _PLAYED_RATE)
    if sound is None:
        frames = max(1, round(_PLAYED_SECONDS * 1000 / given.hop_ms))
        sound = to_sound(values[:frames, :, 0], given, rate)
    else:
        sound = resampled(sound[: _PLAYED_SECONDS * given.rate], given.rate, rate)
    sound = sound * (0.9 / max(float(np.abs(sound).max()), 1e-6))
    return "data:audio/wav;base64," + base64.b64encode(wav(sound, rate)).decode()


def wav(sound: np.ndarray, rate: int) -> bytes:
    """Sound float32 (n,) in [-1, 1] as a WAV file of one channel and 16 bits."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(sound * 32767).astype("<i2").tobytes())
    return content.getvalue()


def examples(given: Read) -> list[bytes]:
    """Two WAV files as long as what is read of a recording: a tone that rises and one that falls."""
    time = np.arange(round(given.seconds * given.rate)) / given.rate
    files = []
    for low, high in ((200.0, given.rate / 4), (given.rate / 4, 200.0)):
        # The phase is the integral of a frequency that moves evenly.
        phase = 2 * np.pi * (low + (high - low) * time / (2 * given.seconds)) * time
        files.append(wav(0.5 * np.sin(phase), given.rate))
    return files
