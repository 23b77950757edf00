"""Text: files and cells of text become UTF-8 bytes, which a model's own tokenizer turns into token ids and a mask.

The methods import what they need: the names of the modality's augmentations are known without numpy, SciPy and torch.
"""

import codecs
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headstart.errors import InputError
from headstart.modalities import Decoded, Modality, Shape
from headstart.modalities.augmentation import augmented, default_first
from headstart.modalities.text.augmentation import AUGMENTATIONS
from headstart.modalities.text.section import TextInput

if TYPE_CHECKING:
    import numpy as np
    import torch

    from headstart.modalities.alike import Alike
    from headstart.modalities.batch import Batch, Inputs
    from headstart.modalities.corruption import Corruption
    from headstart.modalities.preprocessing import Preprocessing, Samples
    from headstart.modalities.room import Room
    from headstart.modalities.text.preprocessing import Tokens
    from headstart.sections import Section

_DEFAULT_AUGMENTATION = "word_dropout"


class Text(Modality):
    """Texts, stored as UTF-8 of any length."""

    name = "text"
    noun = "text"
    extensions = frozenset({".txt"})
    input = TextInput
    gives = "tokens"
    default_architecture = "transformer_tiny"
    draws_per_sample = 2
    values = "UTF-8"

    @property
    def decoding(self) -> str:
        return f"text 1, Unicode {unicodedata.unidata_version}"

    @property
    def augmentations(self) -> Collection[str]:
        return default_first(AUGMENTATIONS, _DEFAULT_AUGMENTATION)

    extra = "text"

    def require_packages(self) -> None:
        from headstart.modalities.text.preprocessing import tokenizers

        tokenizers()

    def from_text(self, text: str) -> bytes:
        """UTF-8 with a byte order mark, so that it is read as such whatever `encoding` files have."""
        return codecs.BOM_UTF8 + text.encode("utf-8", "surrogatepass")

    def as_files(self, value: object) -> "Iterator[bytes] | None":
        """Those of an array of texts."""
        import numpy as np

        if not isinstance(value, np.ndarray) or value.dtype.kind not in "UOT":
            return None
        texts = value.ravel().tolist()
        if not all(isinstance(text, str) for text in texts):
            raise InputError("The array holds more than texts; give texts alone.")
        return iter([self.from_text(text) for text in texts])

    def decode(
        self, raw: bytes, given: "Section", *, room: "Room | None" = None, patience: float | None = None
    ) -> Decoded:
        """uint8 (length,), and the text's `characters`, `words`, `encoding`, `script`, and whether it was `cut`."""
        from headstart.modalities.text.decoding import decode

        return decode(raw, _text(given))

    def usual_shape(self, given: "Section") -> tuple[int, ...]:
        return (_text(given).most_bytes,)

    def shape_of(self, shapes: Iterable[tuple[int, ...]], given: "Section") -> Shape:
        return (None,)

    def batch(self, samples: "np.ndarray | Sequence[np.ndarray]") -> "Batch":
        """`bytes`, uint8 (N, B), and `kept`, bool (N, B)."""
        from headstart.modalities.text.preprocessing import padded

        return padded(list(samples))

    def fit(self, samples: "Samples", given: "Section") -> "Tokens":
        from headstart.modalities.text.preprocessing import Tokens

        return Tokens.fit(samples, _text(given))

    def preprocessing(self, content: Mapping[str, Any]) -> "Preprocessing":
        from headstart.modalities.text.preprocessing import preprocessing

        return preprocessing(content)

    def augment(
        self, batch: "Inputs", draws: "torch.Tensor", *, method: str, strength: float = 1.0, flip: bool = False
    ) -> "Inputs":
        """Changes each text of a batch as its `draws` say; the batch stays as it is.

        Raises:
            InputError: `flip` is true: a text that is read backwards is another text.
        """
        self.refuse_flip(flip)
        changed: Inputs = augmented(
            batch, draws, method=method, strength=strength, augmentations=AUGMENTATIONS, package=__package__
        )
        return changed

    def examples(self, preprocessing: Any) -> list[bytes]:
        from headstart.modalities.text.showing import examples

        return examples()

    @property
    def alike(self) -> "Alike":  # type: ignore[override]
        from headstart.modalities.text.near_duplicates import TEXTS_ALIKE

        return TEXTS_ALIKE

    @property
    def corruptions(self) -> "Sequence[Corruption]":
        from headstart.modalities.text.corruption import CORRUPTIONS

        return [CORRUPTIONS[name] for name in CORRUPTIONS.in_order()]

    def descriptors(self, inputs: "Inputs") -> "Mapping[str, torch.Tensor]":
        from headstart.modalities.text.descriptors import characters, words

        return {"words": words(inputs), "characters": characters(inputs)}

    def plain(self, given: "Section") -> "Preprocessing":
        """Stored bytes."""
        from headstart.modalities.text.preprocessing import Bytes

        return Bytes(_text(given))

    def as_html(
        self, values: "np.ndarray", alt: str, given: "Section", *, heat: "np.ndarray | None" = None, small: bool = False
    ) -> str:
        from headstart.modalities.text.showing import as_html

        return as_html(values, alt, heat=heat, small=small)

    def notes(self, facts: Sequence[Mapping[str, Any]], given: "Section") -> list[str]:
        from headstart.modalities.text.texts import notes

        return notes(facts, _text(given))

    def lost(self, read: "Section", stored: "Section") -> str | None:
        most, given = _text(read).length, _text(stored).length
        return f"what comes after {most:,} tokens, as it reads no more" if most < given else None

    def in_words(self, shape: Shape) -> tuple[str, str]:
        return "any", "bytes of UTF-8"

    def data_report(self, facts: Sequence[Mapping[str, Any]], shape: Shape, given: "Section") -> str:
        from headstart.modalities.text.texts import render_texts

        return render_texts(facts, _text(given))


def _text(given: Any) -> TextInput:
    section: TextInput = given
    return section


MODALITY = Text()
