"""Waveform: sound files become waveforms of their own length, which networks that learned from speech and sound read.

Sound is decoded as the modality `audio` does, which makes maps of it for networks for pictures. The methods import what
they need: the names of the modality's augmentations are known without numpy, SciPy and torch.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headstart.modalities import Decoded, Modality, Shape
from headstart.modalities.audio.formats import FORMAT_OF, contradiction
from headstart.modalities.augmentation import augmented, default_first
from headstart.modalities.waveform.augmentation import AUGMENTATIONS
from headstart.modalities.waveform.section import WaveformInput

if TYPE_CHECKING:
    import numpy as np
    import torch

    from headstart.modalities.alike import Alike
    from headstart.modalities.batch import Batch, Inputs
    from headstart.modalities.corruption import Corruption
    from headstart.modalities.preprocessing import Preprocessing, Samples
    from headstart.modalities.room import Room
    from headstart.modalities.waveform.preprocessing import Waves
    from headstart.sections import Section

_DEFAULT_AUGMENTATION = "gaps"


class Waveform(Modality):
    """Recordings, stored as waveforms of any length."""

    name = "waveform"
    noun = "recording"
    extensions = frozenset(FORMAT_OF)
    input = WaveformInput
    gives = "waves"
    default_architecture = "transformer_sound"
    draws_per_sample = 6
    dtype = "int16"
    values = "samples of sound"

    @property
    def decoding(self) -> str:
        from headstart.modalities.audio import MODALITY as AUDIO

        return f"waveform 1, {AUDIO.decoding}"

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
        """The number of values that are read of the file and kept."""
        from headstart.modalities.audio.decoding import cost

        return cost(raw, _waveform(given).samples)

    def decode(
        self, raw: bytes, given: "Section", *, room: "Room | None" = None, patience: float | None = None
    ) -> Decoded:
        """int16 (n,), and the recording's `seconds`, `rate` in Hz, `channels`, `peak`, and the shares that are
        `clipped` and `silent`."""
        from headstart.modalities.waveform.decoding import decode

        return decode(raw, _waveform(given), room=room, patience=patience)

    def usual_shape(self, given: "Section") -> tuple[int, ...]:
        return (_waveform(given).samples,)

    def shape_of(self, shapes: Iterable[tuple[int, ...]], given: "Section") -> Shape:
        return (None,)

    def batch(self, samples: "np.ndarray | Sequence[np.ndarray]") -> "Batch":
        """`wave`, int16 (N, L), and `kept`, bool (N, L)."""
        from headstart.modalities.waveform.preprocessing import padded

        return padded(list(samples))

    def fit(self, samples: "Samples", given: "Section") -> "Waves":
        """Waves, which follow from the section alone."""
        from headstart.modalities.waveform.preprocessing import Waves

        return Waves(_waveform(given))

    def preprocessing(self, content: Mapping[str, Any]) -> "Waves":
        from headstart.modalities.waveform.preprocessing import Waves

        return Waves.from_dict(content)

    def augment(
        self, batch: "Inputs", draws: "torch.Tensor", *, method: str, strength: float = 1.0, flip: bool = False
    ) -> "Inputs":
        """Changes each recording of a batch as its `draws` say; the batch stays as it is.

        Raises:
            InputError: `flip` is true: sound that is played backwards is another sound.
        """
        self.refuse_flip(flip)
        changed: Inputs = augmented(
            batch, draws, method=method, strength=strength, augmentations=AUGMENTATIONS, package=__package__
        )
        return changed

    def examples(self, preprocessing: Any) -> list[bytes]:
        from headstart.modalities.waveform.showing import examples

        return examples(preprocessing.given)

    @property
    def alike(self) -> "Alike":  # type: ignore[override]
        from headstart.modalities.waveform.near_duplicates import WAVES_ALIKE

        return WAVES_ALIKE

    def descriptors(self, inputs: "Inputs") -> "Mapping[str, torch.Tensor]":
        from headstart.modalities.waveform.descriptors import bands, cepstrum

        return {"bands": bands(inputs), "cepstrum": cepstrum(inputs)}

    def plain(self, given: "Section") -> "Preprocessing":
        """Stored waveforms in [-1, 1]."""
        from headstart.modalities.waveform.preprocessing import Waves

        return Waves(_waveform(given))

    def as_html(
        self, values: "np.ndarray", alt: str, given: "Section", *, heat: "np.ndarray | None" = None, small: bool = False
    ) -> str:
        from headstart.modalities.waveform.showing import as_html

        return as_html(values, alt, _waveform(given), heat=heat, small=small)

    @property
    def corruptions(self) -> "Sequence[Corruption]":
        from headstart.modalities.waveform.corruption import CORRUPTIONS

        return [CORRUPTIONS[name] for name in CORRUPTIONS.in_order()]

    def notes(self, facts: Sequence[Mapping[str, Any]], given: "Section") -> list[str]:
        from headstart.modalities.audio.recordings import notes

        return notes(facts, _waveform(given))

    def lost(self, read: "Section", stored: "Section") -> str | None:
        source, target = _waveform(read), _waveform(stored)
        return f"what comes after {source.seconds:g} s" if source.seconds < target.seconds else None

    def in_words(self, shape: Shape) -> tuple[str, str]:
        return "any", "samples of sound"

    def data_report(self, facts: Sequence[Mapping[str, Any]], shape: Shape, given: "Section") -> str:
        from headstart.modalities.audio.recordings import render_recordings

        return render_recordings(facts, _waveform(given), "waveforms of their own length", is_padded=False)


def _waveform(given: Any) -> WaveformInput:
    section: WaveformInput = given
    return section


MODALITY = Waveform()
