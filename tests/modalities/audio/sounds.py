"""Small recordings, made where they are needed."""

import io
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE, level: float = 0.5) -> np.ndarray:
    """A sine, float64 (n,)."""
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def speech(seed: int, seconds: float = 1.5, rate: int = RATE) -> np.ndarray:
    """What has syllables as speech has: buzzes of a few pitches and colours with pauses between them, float64 (n,)."""
    rng = np.random.default_rng(seed)
    parts, left = [], round(seconds * rate)
    while left > 0:
        length = min(left, round(rng.uniform(0.08, 0.25) * rate))
        time = np.arange(length) / rate
        pitch, centre = rng.uniform(90, 250), rng.uniform(300, 2500)
        harmonics = np.arange(1, 30)[:, None] * pitch
        colours = np.exp(-(((harmonics - centre) / 600) ** 2))
        syllable = (colours * np.sin(2 * np.pi * harmonics * time)).sum(axis=0) * np.hanning(length)
        parts.append(0.3 * rng.uniform(0.2, 1) * syllable / np.abs(syllable).max())
        left -= length
    return np.concatenate(parts) + 1e-4 * rng.standard_normal(round(seconds * rate))


def encoded(
    sound: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str | None = None, **options: float
) -> bytes:
    """A file's content."""
    content = io.BytesIO()
    soundfile.write(content, sound, rate, format=kind, subtype=subtype, **options)
    return content.getvalue()


def write(path: Path, sound: np.ndarray, rate: int = RATE) -> None:
    """A file of the format that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate)
