"""Audio: sound files become log-mel maps uint8 (frames, mels, 1), which networks for pictures read.

The methods import what they need: the names of the modality's augmentations are known without numpy, SciPy and torch.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from headstart.modalities import Decoded, Modality, Shape
from headstart.modalities.audio.augmentation import AUGMENTATIONS
from headstart.modalities.audio.formats import FORMAT_OF, contradiction
from headstart.modalities.audio.section import AudioInput
from headstart.modalities.augmentation import augmented, default_first

if TYPE_CHECKING:
    import numpy as np
    import torch

    from headstart.modalities.alike import Alike
    from headstart.modalities.audio.preprocessing import LogMel
    from headstart.modalities.batch import Inputs
    from headstart.modalities.corruption import Corruption
    from headstart.modalities.preprocessing import Preprocessing, Samples
    from headstart.modalities.room import Room
    from headstart.sections import Section

_DEFAULT_AUGMENTATION = "specaugment"


class Audio(Modality):
    """Recordings, stored as log-mel maps of one length."""

    name = "audio"
    noun = "recording"
    extensions = frozenset(FORMAT_OF)
    input = AudioInput
    default_architecture = "convnet"
    draws_per_sample = 12
    values = "log-mel maps"

    @cached_property
    def decoding(self) -> str:
        from headstart.modalities.audio.decoding import soundfile

        library = soundfile().__libsndfile_version__
        return f"audio 1, libsndfile {library}, SciPy {version('scipy')}, NumPy {version('numpy')}"

    @property
    def augmentations(self) -> Collection[str]:
        return default_first(AUGMENTATIONS, _DEFAULT_AUGMENTATION)

    extra = "audio"

    def require_packages(self) -> None:
        from headstart.modalities.audio.decoding import soundfile

        soundfile()

    def contradiction(self, raw: bytes, extension: str) -> str | None:
        return contradiction(raw, extension)

    def cost(self, raw: bytes, given: "Section") -> int:
        """The number of values that are read of the file and given to the spectrogram."""
        from headstart.modalities.audio.decoding import cost

        return cost(raw, _audio(given).samples)

    def decode(
        self, raw: bytes, given: "Section", *, room: "Room | None" = None, patience: float | None = None
    ) -> Decoded:
        """uint8 (frames, mels, 1), and the recording's `seconds`, `rate` in Hz, `channels`, `peak`, and the shares that
        are `clipped` and `silent`."""
        from headstart.modalities.audio.decoding import decode

        return decode(raw, _audio(given), room=room, patience=patience)

    def usual_shape(self, given: "Section") -> tuple[int, ...]:
        return _audio(given).shape

    def fit(self, samples: "Samples", given: "Section") -> "LogMel":
        from headstart.modalities.audio.preprocessing import LogMel

        return LogMel.fit(samples, _audio(given))

    def preprocessing(self, content: Mapping[str, Any]) -> "LogMel":
        from headstart.modalities.audio.preprocessing import LogMel

        return LogMel.from_dict(content)

    def augment(
        self, batch: "Inputs", draws: "torch.Tensor", *, method: str, strength: float = 1.0, flip: bool = False
    ) -> "torch.Tensor":
        """Changes each map of a batch uint8 (N, frames, mels, 1) as its `draws` say; the batch stays as it is.

        Raises:
            InputError: `flip` is true: sound that is played backwards is another sound.
        """
        self.refuse_flip(flip)
        changed: torch.Tensor = augmented(
            batch, draws, method=method, strength=strength, augmentations=AUGMENTATIONS, package=__package__
        )
        return changed

    def examples(self, preprocessing: Any) -> list[bytes]:
        from headstart.modalities.audio.showing import examples

        return examples(preprocessing.given)

    @property
    def alike(self) -> "Alike":  # type: ignore[override]
        from headstart.modalities.audio.near_duplicates import SOUNDS_ALIKE

        return SOUNDS_ALIKE

    @property
    def corruptions(self) -> "Sequence[Corruption]":
        from headstart.modalities.audio.corruption import CORRUPTIONS

        return [CORRUPTIONS[name] for name in CORRUPTIONS.in_order()]

    def descriptors(self, inputs: "Inputs") -> "Mapping[str, torch.Tensor]":
        from headstart.modalities.audio.descriptors import bands, cepstrum

        return {"bands": bands(inputs), "cepstrum": cepstrum(inputs)}  # type: ignore[arg-type]

    def plain(self, given: "Section") -> "Preprocessing":
        """Stored values, from 0 to 255."""
        from headstart.modalities.audio.preprocessing import LogMel

        audio = _audio(given)
        return LogMel(audio, (0.0,) * audio.mels, (1.0,) * audio.mels)

    def as_html(
        self, values: "np.ndarray", alt: str, given: "Section", *, heat: "np.ndarray | None" = None, small: bool = False
    ) -> str:
        from headstart.modalities.audio.showing import as_html

        return as_html(values, alt, _audio(given), heat=heat, small=small)

    def notes(self, facts: Sequence[Mapping[str, Any]], given: "Section") -> list[str]:
        from headstart.modalities.audio.recordings import notes

        return notes(facts, _audio(given))

    def lost(self, read: "Section", stored: "Section") -> str | None:
        if read == stored:
            return None
        source = _audio(read)
        return f"the true pitch and pace, as it reads maps of {source.seconds:g} s at {source.rate} Hz"

    def in_words(self, shape: Shape) -> tuple[str, str]:
        return f"{shape[0]} × {shape[1]}", "frames and mel bands"

    def data_report(self, facts: Sequence[Mapping[str, Any]], shape: Shape, given: "Section") -> str:
        from headstart.modalities.audio.recordings import render_recordings

        audio = _audio(given)
        return render_recordings(facts, audio, f"{audio.frames} frames of {audio.mels} mel bands")


def _audio(given: Any) -> AudioInput:
    section: AudioInput = given
    return section


MODALITY = Audio()
