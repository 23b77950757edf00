"""Mixed recordings: several languages at once, for several labels each, and speech in noise, for a number each.

They are mixed of the recordings that `headstart_pipelines.spoken` lays out:

    python -m headstart_pipelines.mixtures spoken mixtures

writes mixtures/languages/ and mixtures/noise/, once, each with source/ and target/: clips of two seconds as FLAC files,
and labels.csv with the columns path, label and split. A label of languages/ reads be;da; one of noise/ is by how many
dB the speech is louder than pink noise. No recording is in two splits. The extra `audio` reads and writes them.
"""

import csv
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from headstart.data.task import SEPARATOR
from headstart.errors import InputError
from headstart.storage.local import new_directory
from headstart_pipelines.spoken import LANGUAGES

RATE, SECONDS = 16_000, 2
_CLIPS = {"source": {"train": 1200, "test": 300}, "target": {"train": 500, "test": 500}}
# The share of each language's recordings that training clips are mixed of.
_LEARNED = 0.6
_MOST_LANGUAGES = 3
_SIGNAL_TO_NOISE = (-5.0, 25.0)
# Root mean square of a clip, of full scale: quiet enough that a sum of three stays below 1.
_LOUDNESS = 0.05

Mixed = tuple[np.ndarray, str]
Mix = Callable[[Mapping[str, list[Path]], np.random.Generator], Mixed]


def main(spoken: Path, root: Path) -> None:
    """Write what is missing below `root`.

    Raises:
        InputError: `spoken` is not the folder that `headstart_pipelines.spoken` writes.
    """
    for seed, domain in enumerate(LANGUAGES):
        recordings = {code: sorted((spoken / domain / code).glob("*.ogg")) for code in LANGUAGES[domain]}
        if missing := [code for code, paths in recordings.items() if not paths]:
            raise InputError(
                f"{spoken / domain} has no recordings in {', '.join(missing)}; give the folder that "
                "headstart_pipelines.spoken writes."
            )
        for name, mix in {"languages": together, "noise": in_noise}.items():
            if not (root / name / domain).exists():
                write_clips(recordings, mix, root / name / domain, _CLIPS[domain], seed)
                print(f"wrote {root / name / domain}")


def write_clips(
    recordings: Mapping[str, list[Path]], mix: Mix, folder: Path, clips: Mapping[str, int], seed: int
) -> None:
    """Write so many `clips` of each split that `mix` makes of recordings, and labels.csv, whole or not at all."""
    import soundfile

    generator, rows = np.random.default_rng(seed), []
    pools: dict[str, dict[str, list[Path]]] = {"train": {}, "test": {}}
    for code, paths in recordings.items():
        order, first = generator.permutation(len(paths)), round(_LEARNED * len(paths))
        pools["train"][code] = [paths[each] for each in order[:first]]
        pools["test"][code] = [paths[each] for each in order[first:]]
    with new_directory(folder) as draft:
        for split, count in clips.items():
            for number in range(count):
                sound, label = mix(pools[split], generator)
                path = f"{split}-{number:04d}.flac"
                soundfile.write(draft / path, sound, RATE, format="FLAC")
                rows.append((path, label, split))
        with (draft / "labels.csv").open("w", newline="") as file:
            written = csv.writer(file)
            written.writerow(["path", "label", "split"])
            written.writerows(rows)


def together(recordings: Mapping[str, list[Path]], generator: np.random.Generator) -> Mixed:
    """One to three languages at once, equally loud, and their codes."""
    count = int(generator.integers(1, _MOST_LANGUAGES + 1))
    codes = sorted(generator.choice(list(recordings), count, replace=False).tolist())
    sounds = [_clip(recordings[code], generator) for code in codes]
    return np.sum(sounds, axis=0), SEPARATOR.join(codes)


def in_noise(recordings: Mapping[str, list[Path]], generator: np.random.Generator) -> Mixed:
    """A recording in noise whose power falls with the frequency, and by how many dB it is louder."""
    codes = list(recordings)
    speech = _clip(recordings[codes[int(generator.integers(len(codes)))]], generator)
    louder = round(float(generator.uniform(*_SIGNAL_TO_NOISE)), 1)
    spectrum = np.fft.rfft(generator.standard_normal(len(speech)))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(speech))
    mixed = speech + _as_loud(noise) * 10 ** (-louder / 20)
    # How loud the clip is as a whole tells nothing.
    return _as_loud(mixed) * generator.uniform(0.5, 2.0), str(louder)


def _clip(paths: list[Path], generator: np.random.Generator) -> np.ndarray:
    """Two seconds of one of the recordings, at random places of them where it is longer or shorter."""
    import soundfile
    from scipy.signal import resample_poly

    sound, rate = soundfile.read(paths[int(generator.integers(len(paths)))], dtype="float32", always_2d=True)
    common = math.gcd(rate, RATE)
    mono = resample_poly(sound.mean(axis=1), RATE // common, rate // common)
    length = RATE * SECONDS
    start = int(generator.integers(0, abs(len(mono) - length) + 1))
    if len(mono) >= length:
        return _as_loud(mono[start : start + length])
    return np.pad(_as_loud(mono), (start, length - len(mono) - start))


def _as_loud(sound: np.ndarray) -> np.ndarray:
    loudness = float(np.sqrt(np.mean(sound**2))) or 1.0
    return np.clip(sound * (_LOUDNESS / loudness), -1.0, 1.0)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m headstart_pipelines.mixtures SPOKEN OUT")
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except InputError as error:
        sys.exit(str(error))
