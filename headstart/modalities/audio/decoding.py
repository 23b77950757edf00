"""Decoding: the content of a sound file becomes a log-mel map uint8 (frames, mels, 1).

It is read by libsndfile, through the package soundfile of the extra `audio`.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.errors import InputError
from headstart.modalities import Decoded, UnreadableSample
from headstart.modalities.audio.formats import format_of, is_cut_short
from headstart.modalities.audio.section import AudioInput
from headstart.modalities.audio.spectrogram import to_map
from headstart.modalities.room import NoRoom, Room

if TYPE_CHECKING:
    from soundfile import SoundFile

_RATES = (1000, 384_000)  # Hz
_CHANNELS = 64
# Of a longer recording the middle is read: a file of hours costs no more than one of a minute.
_SECONDS_READ = 60
_VALUES_AT_ONCE = 2**18
# A float file may exceed full scale a little; one of whole numbers, up to 32767, was saved without being scaled.
_LOUDEST = 16.0
_CLIPPED = 0.999
_SILENT = 1e-3  # of full scale, root mean square: -60 dB
# Terms of the ratio between two rates. Beyond them it is rounded, by a millionth or so.
_MOST_TERMS = 1000
# Memory for decoding in a process: a minute at 48 kHz takes an eighth of it.
_ROOM = Room(2**28)
_BYTES_A_FRAME = 12
_VALUES_A_FILE = 4096


def cost(raw: bytes, samples: int) -> int:
    """The number of values that decoding to so many samples works on, by the file's header; raises UnreadableSample."""
    with _opened(raw) as file:
        return _read_frames(file) * file.channels + samples + _VALUES_A_FILE


def decode(raw: bytes, given: AudioInput, *, room: Room | None = None, patience: float | None = None) -> Decoded:
    """The map of a file's content, uint8 (frames, mels, 1), and facts on the recording; raises UnreadableSample.

    The sound is that of `sound_of`; a recording shorter than `given.seconds` is padded with silence on both sides.
    """
    with sound_of(raw, given.rate, given.seconds, room=room, patience=patience) as (sound, facts):
        values = to_map(of_length(sound, given.samples), given)
    return Decoded(values[:, :, None], facts)


@contextmanager
def sound_of(
    raw: bytes, rate: int, seconds: float, *, room: Room | None = None, patience: float | None = None
) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """The sound of a file's content at `rate` Hz, float32 (n,) in [-1, 1], and facts on the recording; raises
    UnreadableSample.

    Channels are averaged. Of a recording longer than `seconds`, the part with the most energy is taken, of one longer
    than a minute that of the minute in its middle. Another rate is converted by polyphase filtering.

    =====================================  ===============================================================
    truncated, damaged                     refused, whatever part could be decoded
    no samples                             refused
    below 1000 Hz, above 384 000 Hz        refused: it is no sound
    > 64 channels                          refused
    NaN, infinity                          refused
    float, up to 16 times full scale       clipped to full scale, as a player does; refused beyond
    =====================================  ===============================================================

    The facts, of the part that is read: `seconds` (of the whole), `rate` in Hz, `channels`, `peak` (1 is full scale),
    `clipped` (the share of values at full scale) and `silent` (the share of hundredths of a second below -60 dB).
    The memory that this takes comes out of `room`, by default one of the process, as long as the sound is in use;
    NoRoom if it was not free within `patience` seconds.
    """
    with _opened(raw) as file:
        own, channels, length = file.samplerate, file.channels, file.frames
        with (room or _ROOM).take(_read_frames(file) * _BYTES_A_FRAME, patience):
            sound, peak, clipped = _middle(file)
            facts = {
                "seconds": length / own, "rate": own, "channels": channels, "peak": peak, "clipped": clipped,
                "silent": float((_loudness(sound, own) < _SILENT).mean()),
            }  # fmt: skip
            yield np.clip(resampled(_loudest(sound, round(seconds * own)), own, rate), -1, 1), facts


def soundfile() -> Any:
    """The package that decodes; InputError if it is not installed."""
    try:
        import soundfile as package
    except ModuleNotFoundError:
        raise InputError(
            "Recordings need the package soundfile; install it with: pip install 'headstart[audio]'"
        ) from None
    return package


@contextmanager
def _opened(raw: bytes) -> "Iterator[SoundFile]":
    """The recording in a file's content, of which only the header is read; raises UnreadableSample, also for what is
    found when the rest is."""
    if not raw:
        raise UnreadableSample("the file is empty")
    # libsndfile would try two dozen formats on it.
    if format_of(raw) is None:
        raise UnreadableSample("its content is not a recording in a known format")
    if is_cut_short(raw):
        raise UnreadableSample("the recording is cut short: it ends before its header says so")
    package = soundfile()
    try:
        with package.SoundFile(io.BytesIO(raw)) as file:
            _check(file)
            yield file
    except (UnreadableSample, NoRoom):
        raise
    except (package.SoundFileError, RuntimeError, ValueError, OverflowError) as error:
        # libsndfile's own words; the package puts the address of a buffer before them.
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        raise UnreadableSample(f"the recording is damaged: {reason}") from error


def _check(file: "SoundFile") -> None:
    low, high = _RATES
    if file.frames < 1:
        raise UnreadableSample("the recording holds no samples")
    if not low <= file.samplerate <= high:
        raise UnreadableSample(f"the recording has {file.samplerate} samples a second; {low} to {high} are read")
    if file.channels > _CHANNELS:
        raise UnreadableSample(f"the recording has {file.channels} channels; up to {_CHANNELS} are read")


def _read_frames(file: "SoundFile") -> int:
    """The number of samples of each channel that are read."""
    return min(file.frames, _SECONDS_READ * file.samplerate)


def _middle(file: "SoundFile") -> tuple[np.ndarray, float, float]:
    """The mean of the channels, float32 (n,), of the minute in the middle, and of all values there the peak and the
    share at full scale."""
    wanted = _read_frames(file)
    if wanted < file.frames:
        file.seek((file.frames - wanted) // 2)
    sound = np.empty(wanted, dtype=np.float32)
    step = max(1, _VALUES_AT_ONCE // file.channels)
    read, clipped, peak = 0, 0, 0.0
    while read < wanted:
        block = file.read(min(step, wanted - read), dtype="float32", always_2d=True)
        if not len(block):
            break
        if not np.isfinite(block).all():
            raise UnreadableSample("the recording holds values that are no numbers (NaN or infinity)")
        sizes = np.abs(block)
        peak = max(peak, float(sizes.max()))
        clipped += int((sizes >= _CLIPPED).sum())
        sound[read : read + len(block)] = block.mean(axis=1)
        read += len(block)
    # What an MP3 or Ogg file says of its length may be a little too long.
    tolerated = max(file.samplerate // 10, wanted // 20) if file.format in ("MP3", "OGG") else 0
    if not read or wanted - read > tolerated:
        raise UnreadableSample(
            f"the recording is cut short: its header says {file.frames / file.samplerate:.1f} s, of which "
            f"{(wanted - read) / file.samplerate:.1f} s are missing"
        )
    if peak > _LOUDEST:
        raise UnreadableSample(f"its values reach {peak:.3g}, and 1 is full scale; save it scaled to -1 to 1")
    return sound[:read], peak, clipped / (read * file.channels)


def _loudness(sound: np.ndarray, rate: int) -> np.ndarray:
    """The root mean square of each hundredth of a second, the last of which may be shorter, float32 (n,)."""
    starts = np.arange(0, len(sound), rate // 100)
    sums = np.add.reduceat(np.square(sound), starts)
    lengths = np.diff(np.append(starts, len(sound)))
    loudness: np.ndarray = np.sqrt(sums / lengths)
    return loudness


def _loudest(sound: np.ndarray, length: int) -> np.ndarray:
    """The part of `length` samples that has the most energy, to a 200th of its length, the first of equal ones; all of
    a shorter sound."""
    if len(sound) <= length:
        return sound
    step = max(1, length // 200)
    starts = np.arange(0, len(sound) - step + 1, step)
    energy = np.concatenate([[0.0], np.cumsum(np.add.reduceat(np.square(sound), starts), dtype=np.float64)])
    width = max(1, min(length // step, len(energy) - 1))
    start = step * int(np.argmax(energy[width:] - energy[:-width]))
    start = min(start, len(sound) - length)
    return sound[start : start + length]


def resampled(sound: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Sound at `wanted` Hz, float32, of sound at `rate` Hz."""
    if rate == wanted:
        return sound
    from scipy.signal import resample_poly

    ratio = Fraction(wanted, rate).limit_denominator(_MOST_TERMS)
    converted: np.ndarray = resample_poly(sound, ratio.numerator, ratio.denominator)
    return converted.astype(np.float32)


def of_length(sound: np.ndarray, length: int) -> np.ndarray:
    """Sound of `length` samples: with silence on both sides, or without its end, which rounding made too long."""
    missing = max(0, length - len(sound))
    return np.pad(sound, (missing // 2, missing - missing // 2))[:length]
