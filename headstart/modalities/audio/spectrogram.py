"""Log-mel spectrograms: sound becomes a uint8 map of frames and mel bands, and a map sound again.

A value v of the map is the power of a band in a frame, in dB of full scale: v / 2.55 - 100. All bands of a square wave
of full scale together have 0 dB, the noise of 16 bits has -98 dB; a step is 0.4 dB. 0 stands for everything below.
"""

from functools import lru_cache

import numpy as np

from headstart.modalities.audio.scale import FLOOR, STEP
from headstart.modalities.audio.section import AudioInput

_LOWEST = 40.0  # Hz, where the first band begins: below is what a microphone's hand and the mains do
_FRAMES_AT_ONCE = 256
_ITERATIONS = 16  # of Griffin and Lim: more bring a map of speech less than 0.05 dB nearer


def to_map(sound: np.ndarray, given: AudioInput) -> np.ndarray:
    """Sound float32 (frames · hop,) in [-1, 1] at `given.rate` as uint8 (frames, mels).

    A frame is a Hann window of two hops about the middle of its own.
    """
    hop = given.hop
    padded = np.pad(sound, (hop // 2, hop - hop // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[::hop]
    window = _hann(2 * hop)
    size = _size(2 * hop)
    bank = mel_bank(given.rate, given.mels, size)
    found = np.empty((len(frames), given.mels), dtype=np.uint8)
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        spectrum = np.fft.rfft(frames[start : start + _FRAMES_AT_ONCE] * window, size)
        # By Parseval, the bins of a frame add up to the mean square of its samples.
        power = np.square(np.abs(spectrum)) * (2 / (size * np.square(window).sum()))
        found[start : start + _FRAMES_AT_ONCE] = from_power(power @ bank.T)
    return found


def from_power(power: np.ndarray) -> np.ndarray:
    """Powers, of which 1 is full scale, as uint8."""
    return from_db(10 * np.log10(np.maximum(power, 1e-30)))


def from_db(db: np.ndarray) -> np.ndarray:
    return np.clip(np.rint((db - FLOOR) / STEP), 0, 255).astype(np.uint8)


def to_db(values: np.ndarray) -> np.ndarray:
    """Stored values as float32 dB of full scale, each within half a step where it was not below the floor."""
    return values.astype(np.float32) * np.float32(STEP) + np.float32(FLOOR)


def to_power(values: np.ndarray) -> np.ndarray:
    """Stored values as float32 powers, of which 1 is full scale; 0 where the map has no more than the floor."""
    return np.where(values > 0, np.float32(10) ** (to_db(values) / 10), 0).astype(np.float32)


@lru_cache(maxsize=8)
def mel_bank(rate: int, mels: int, size: int) -> np.ndarray:
    """Triangular filters, float32 (mels, size // 2 + 1), over the bins of a Fourier transform of `size` samples.

    Their centres lie evenly on O'Shaughnessy's mel scale, 2595 log10(1 + f / 700), from 40 Hz to half the rate. None is
    narrower than a bin, so that none is empty.
    """
    low, high = 2595 * np.log10(1 + np.array([_LOWEST, rate / 2]) / 700)
    edges = 700 * (10 ** (np.linspace(low, high, mels + 2) / 2595) - 1)
    spacing = rate / size
    distance = np.arange(size // 2 + 1) * spacing - edges[1:-1, None]
    below, above = (np.maximum(widths, spacing)[:, None] for widths in (np.diff(edges)[:-1], np.diff(edges)[1:]))
    bank: np.ndarray = np.clip(1 - np.where(distance < 0, -distance / below, distance / above), 0, None)
    return bank.astype(np.float32)


def to_sound(values: np.ndarray, given: AudioInput, rate: int) -> np.ndarray:
    """Sound float32 (n,) at `rate` Hz, at most `given.rate`, that has about the map uint8 (frames, mels).

    The phases, which a map lacks, are found as by Griffin and Lim 1984, "Signal estimation from modified short-time
    Fourier transform": from random ones on, those of the sound with the wanted magnitudes are taken again and again.
    """
    hop = round(rate * given.hop_ms / 1000)
    # The bank is that of the recording's rate; a lower one has the first of its bins.
    bins = round(given.rate / rate * hop) * 2
    bank = mel_bank(given.rate, given.mels, bins)
    power = to_power(values) @ (bank / bank.sum(axis=1, keepdims=True))
    window = _hann(2 * hop)
    magnitudes = np.sqrt(power[:, : hop + 1] * hop * np.square(window).sum())
    turns = np.random.default_rng(0).uniform(0, 2 * np.pi, magnitudes.shape)
    spectrum = magnitudes * np.exp(1j * turns)
    for _ in range(_ITERATIONS):
        sound = _overlapped(np.fft.irfft(spectrum, 2 * hop) * window, hop)
        frames = np.lib.stride_tricks.sliding_window_view(sound, 2 * hop)[::hop]
        spectrum = np.fft.rfft(frames * window)
        spectrum *= magnitudes / np.maximum(np.abs(spectrum), 1e-9)
    sound = _overlapped(np.fft.irfft(spectrum, 2 * hop) * window, hop)
    return sound[hop // 2 :][: len(values) * hop].astype(np.float32)


def _overlapped(frames: np.ndarray, hop: int) -> np.ndarray:
    """The sum of frames (n, 2 · hop), each a hop after the one before, (n + 1) · hop samples."""
    sound = np.zeros((len(frames) + 1, hop))
    sound[:-1] += frames[:, :hop]
    sound[1:] += frames[:, hop:]
    # What the two windows of each sample amount to.
    squares = np.square(_hann(2 * hop)).reshape(2, hop).sum(axis=0)
    return (sound / squares).ravel()


@lru_cache(maxsize=8)
def _hann(length: int) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


def _size(window: int) -> int:
    """That of the transform of a window: so many bins that the narrow bands have one each."""
    return 1 << (2 * window - 1).bit_length()
