"""What the modalities `dna` and `protein` have in common: letters of an alphabet, of any length.

They are two, as what is done to a sequence depends on its alphabet: DNA has another strand, and k-mers of other
lengths. The methods import what they need: the names of a modality's augmentations are known without numpy, SciPy and
torch.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from headstart.errors import InputError
from headstart.modalities import Decoded, Modality, Shape
from headstart.modalities._sequences.section import SequenceInput
from headstart.modalities.augmentation import default_first

if TYPE_CHECKING:
    import numpy as np
    import torch

    from headstart.modalities._sequences.alphabet import Alphabet
    from headstart.modalities._sequences.preprocessing import Tokens
    from headstart.modalities.augmentation import Augmentation
    from headstart.modalities.batch import Batch, Inputs
    from headstart.modalities.corruption import Corruption
    from headstart.modalities.preprocessing import Preprocessing, Samples
    from headstart.modalities.room import Room
    from headstart.registry import Registry
    from headstart.sections import Section

FASTA = frozenset({".fasta", ".fa", ".seq"})
"""Extensions of files that hold one sequence of any kind, as a record of FASTA or plain."""

_DEFAULT_AUGMENTATION = "substitutions"


class Sequences(Modality):
    """Sequences, stored as letters in upper case, of any length."""

    gives = "tokens"
    default_architecture = "convnet_sequence"
    draws_per_sample = 3
    values = "letters"

    k_of_shares: ClassVar[range]
    """the lengths of the k-mers that classical models count"""

    @property
    def alphabet(self) -> "Alphabet":
        raise NotImplementedError

    @property
    def augmentation_registry(self) -> "Registry[Augmentation]":
        raise NotImplementedError

    @property
    def corruption_registry(self) -> "Registry[Corruption]":
        raise NotImplementedError

    @property
    def decoding(self) -> str:
        return f"{self.name} 1"

    @property
    def augmentations(self) -> Collection[str]:
        return default_first(self.augmentation_registry, _DEFAULT_AUGMENTATION)

    def from_text(self, text: str) -> bytes:
        return text.encode("utf-8", "surrogatepass")

    def letters_read(self, given: "Section | None") -> int:
        return _sequence(given or self.input()).length

    def as_files(self, value: object) -> "Iterator[bytes] | None":
        """Those of an array of texts."""
        import numpy as np

        if not isinstance(value, np.ndarray) or value.dtype.kind not in "UOT":
            return None
        texts = value.ravel().tolist()
        if not all(isinstance(text, str) for text in texts):
            raise InputError("The array holds more than texts; give the letters of sequences alone.")
        return iter([self.from_text(text) for text in texts])

    def decode(
        self, raw: bytes, given: "Section", *, room: "Room | None" = None, patience: float | None = None
    ) -> Decoded:
        """uint8 (length,), and the sequence's `letters`, `ambiguous`, `counts`, and whether it was `cut`."""
        from headstart.modalities._sequences.decoding import decode

        return decode(raw, _sequence(given), self.alphabet)

    def usual_shape(self, given: "Section") -> tuple[int, ...]:
        return (_sequence(given).length,)

    def shape_of(self, shapes: Iterable[tuple[int, ...]], given: "Section") -> Shape:
        return (None,)

    def batch(self, samples: "np.ndarray | Sequence[np.ndarray]") -> "Batch":
        """`letters`, uint8 (N, L), and `kept`, bool (N, L)."""
        from headstart.modalities._sequences.preprocessing import padded

        return padded(list(samples))

    def fit(self, samples: "Samples", given: "Section") -> "Tokens":
        """Tokens, which follow from the section alone."""
        from headstart.modalities._sequences.preprocessing import Tokens

        return Tokens(self.alphabet, _sequence(given))

    def preprocessing(self, content: Mapping[str, Any]) -> "Preprocessing":
        from headstart.modalities._sequences.preprocessing import preprocessing

        keys = list(self.input.model_fields)
        return preprocessing(content, lambda values: _sequence(self.input.of(values)), keys, self.alphabet)

    def augment(
        self, batch: "Inputs", draws: "torch.Tensor", *, method: str, strength: float = 1.0, flip: bool = False
    ) -> "Inputs":
        """Changes each sequence of a batch as its `draws` say; the batch stays as it is. `flip` shows half of them as
        their other strand.

        Raises:
            InputError: `flip` is true, and there is no other strand.
        """
        if flip and not self.mirrors:
            raise InputError("Proteins have no other strand; leave flip out of training, or set it to false.")
        draws = draws.to(batch.device, non_blocking=True)
        if flip:
            from headstart.modalities._sequences.changes import reversed_complements

            batch = reversed_complements(batch, draws[:, 0] < 0.5, self.alphabet)  # type: ignore[arg-type]
        if method == "views":
            from headstart.modalities._sequences.views import views

            return views(batch, draws, strength, self.alphabet)  # type: ignore[arg-type]
        changed: Inputs = self.augmentation_registry[method].apply(batch, draws, strength)
        return changed

    def examples(self, preprocessing: Any) -> list[bytes]:
        from headstart.modalities._sequences.showing import examples

        return examples(self.alphabet)

    @property
    def corruptions(self) -> "Sequence[Corruption]":
        return [self.corruption_registry[name] for name in self.corruption_registry.in_order()]

    def descriptors(self, inputs: "Inputs") -> "Mapping[str, torch.Tensor]":
        from headstart.modalities._sequences.descriptors import places, shares

        return {"kmers": shares(inputs, self.alphabet, self.k_of_shares), "places": places(inputs, self.alphabet)}

    def plain(self, given: "Section") -> "Preprocessing":
        """Stored letters."""
        from headstart.modalities._sequences.preprocessing import Letters

        return Letters(self.alphabet, _sequence(given))

    def as_html(
        self, values: "np.ndarray", alt: str, given: "Section", *, heat: "np.ndarray | None" = None, small: bool = False
    ) -> str:
        from headstart.modalities._sequences.showing import as_html

        return as_html(values, alt, heat=heat, small=small)

    def notes(self, facts: Sequence[Mapping[str, Any]], given: "Section") -> list[str]:
        from headstart.modalities._sequences.report import notes

        return notes(facts, _sequence(given), self.alphabet)

    def lost(self, read: "Section", stored: "Section") -> str | None:
        most, given = _sequence(read).length, _sequence(stored).length
        return f"what comes after {most:,} letters, as it reads no more" if most < given else None

    def in_words(self, shape: Shape) -> tuple[str, str]:
        return "any", f"{self.alphabet.noun}s"

    def data_report(self, facts: Sequence[Mapping[str, Any]], shape: Shape, given: "Section") -> str:
        from headstart.modalities._sequences.report import render_sequences

        return render_sequences(facts, _sequence(given), self.alphabet)


def _sequence(given: Any) -> SequenceInput:
    section: SequenceInput = given
    return section
