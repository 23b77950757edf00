"""Preprocessing: stored letters become token ids and a mask, by operations of torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.errors import InputError
from headstart.modalities import UnreadableSample
from headstart.modalities._sequences.alphabet import Alphabet
from headstart.modalities._sequences.decoding import decode
from headstart.modalities._sequences.section import SequenceInput
from headstart.modalities.batch import Batch, Inputs
from headstart.modalities.preprocessing import Preprocessing
from headstart.modalities.tokens import TokenPreprocessing
from headstart.sections import Section

PAD, MASK, UNKNOWN = range(3)
"""The ids of the tokens that stand for no letters; those of letters follow."""
SPECIAL = 3

# A token takes about as much of a network for sequences as so many pixels do of one for pictures.
_POSITIONS_PER_TOKEN = 16


def padded(samples: Sequence[np.ndarray]) -> Batch:
    """Stored sequences as `letters`, uint8 (N, L), filled up with 0, and `kept`, bool (N, L), which tells letters."""
    longest = max((len(each) for each in samples), default=0)
    values = np.zeros((len(samples), longest), dtype=np.uint8)
    for row, each in enumerate(samples):
        values[row, : len(each)] = each
    return Batch({"letters": torch.from_numpy(values), "kept": torch.from_numpy(values > 0)})


def numbered(inputs: Inputs, alphabet: Alphabet) -> tuple[Tensor, Tensor]:
    """The letters of a stored batch as their places in the alphabet, int64 (N, L), all others and padding as the number
    of its letters, and `kept`, bool (N, L)."""
    assert isinstance(inputs, Batch)  # noqa: S101 (the modality's own)
    letters, kept = inputs.tensors["letters"], inputs.tensors["kept"]
    table = torch.tensor(alphabet.numbers.tolist(), device=letters.device)
    return table[letters.long()], kept


def kmers(numbers: Tensor, k: int, count: int) -> tuple[Tensor, Tensor]:
    """The runs of `k` letters that begin at each place of (N, L): their numbers, int64 (N, L) below count**k, and
    whether all of their letters are known, bool (N, L). Those that reach beyond the end are not."""
    longer = F.pad(numbers, (0, k - 1), value=count)
    runs, known = torch.zeros_like(numbers), torch.ones_like(numbers, dtype=torch.bool)
    for place in range(k):
        letters = longer[:, place : place + numbers.shape[1]]
        runs, known = runs * count + letters.clamp(max=count - 1), known & (letters < count)
    return runs, known


class _OfSequences(Preprocessing):
    """What both kinds have in common: how sequences are decoded, and what a request may hold."""

    alphabet: Alphabet
    input: SequenceInput

    @property
    def given(self) -> SequenceInput:
        return self.input

    def noise(self, count: int) -> list[np.ndarray]:
        """Random letters, 40 to 200 of them, or as many as are read."""
        generator, most = np.random.default_rng(0), self.input.length
        lengths = generator.integers(min(40, most), min(200, most) + 1, count)
        return [self.alphabet.codes[generator.integers(0, len(self.alphabet.codes), length)] for length in lengths]

    @property
    def stored_form(self) -> str:
        return (
            f"sequences of {self.alphabet.noun}s, or their letters in ASCII of shape (N, length), shorter ones filled "
            "up with 0"
        )

    @property
    def longest_input(self) -> int:
        return self.input.length

    @property
    def program_form(self) -> str:
        return (
            f"uint8 letters in ASCII, upper case, of shape (N, L), L at most {self.input.length}, filled up with 0, "
            "and a bool mask of the same shape"
        )

    def checked(self, values: np.ndarray) -> list[np.ndarray]:
        """The sequences of a request that gives letters, (N, length): whole numbers from 0 to 255."""
        if values.ndim != 2 or values.dtype.kind not in "ui" or (values.size and not 0 <= values.min() <= 255):
            raise InputError(f"The samples are {values.dtype} of shape {values.shape}; give {self.stored_form}.")
        if values.size and values.max() > 255:
            raise InputError(f"The samples reach to {values.max()}, and letters to 255; give {self.stored_form}.")
        rows = []
        for number, row in enumerate(values):
            try:
                raw = np.trim_zeros(row, "b").astype(np.uint8).tobytes()
                rows.append(decode(raw, self.input, self.alphabet).values)
            except UnreadableSample as reason:
                raise InputError(f"Sequence {number} cannot be read: {reason}.") from None
        return rows


@dataclass(frozen=True)
class Tokens(_OfSequences, TokenPreprocessing):
    """How sequences are decoded and cut in tokens of `input.k` letters. `channels` is the number of tokens: of every
    run of k letters one, and PAD, MASK and UNKNOWN."""

    alphabet: Alphabet
    input: SequenceInput

    @property
    def channels(self) -> int:  # type: ignore[override]
        return SPECIAL + len(self.alphabet.letters) ** self.input.k

    def read_as(self, given: Section) -> "Tokens":
        """The same tokens of sequences that are read as far as those of the data set."""
        assert isinstance(given, SequenceInput)  # noqa: S101 (that of this modality)
        return replace(self, input=self.input.model_copy(update={"length": given.length}))

    @property
    def length(self) -> int:
        whole = self.input.length - self.input.k
        return 1 + (whole if self.input.overlap else whole // self.input.k)

    @property
    def positions(self) -> int:
        return _POSITIONS_PER_TOKEN * self.length

    @property
    def mask_id(self) -> int | None:
        """None where tokens overlap: the neighbours of a hidden one spell it."""
        return None if self.input.overlap and self.input.k > 1 else MASK

    @property
    def special_ids(self) -> list[int]:
        return [PAD, MASK, UNKNOWN]

    def __call__(self, batch: Inputs) -> Batch:
        """`letters`, uint8 (N, B), and `kept`, bool (N, B), become `ids`, int64 (N, L), and `mask`, bool (N, L). A
        sequence of fewer letters than a token has is one UNKNOWN."""
        numbers, kept = numbered(batch, self.alphabet)
        numbers, kept = numbers[:, : self.input.length], kept[:, : self.input.length]
        k, count = self.input.k, len(self.alphabet.letters)
        runs, known = kmers(numbers, k, count)
        if k > 1:
            whole = F.pad(kept, (0, k - 1))[:, k - 1 :]
            step = 1 if self.input.overlap else k
            first = torch.arange(kept.shape[1], device=kept.device) == 0
            runs, known, kept = runs[:, ::step], known[:, ::step], (whole | first)[:, ::step]
        ids = torch.where(known, runs + SPECIAL, UNKNOWN)
        return Batch({"ids": torch.where(kept, ids, PAD), "mask": kept})

    def spans(self, sample: np.ndarray) -> np.ndarray:
        k, letters = self.input.k, min(len(sample), self.input.length)
        starts = np.arange(0, max(1, letters - k + 1), 1 if self.input.overlap else k)
        return np.stack([starts, np.minimum(starts + k, letters)], axis=1)

    def example(self, count: int) -> Batch:
        ids = torch.arange(count * self.length).reshape(count, self.length) % self.channels
        return Batch({"ids": ids, "mask": torch.ones(count, self.length, dtype=torch.bool)})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: those of the input's section, and `tokens`, the number of them."""
        return {**self.input.model_dump(), "tokens": self.channels}

    @property
    def described(self) -> str:
        noun = f"{self.alphabet.noun}s" if self.input.k == 1 else f"{self.input.k}-mers"
        return f"{noun} of the first {self.input.length:,} letters"


@dataclass(frozen=True)
class Letters(_OfSequences):
    """Sequences as they are stored, which descriptors are computed of."""

    alphabet: Alphabet
    input: SequenceInput

    channels = 1

    def read_as(self, given: Section) -> "Letters":
        assert isinstance(given, SequenceInput)  # noqa: S101 (that of this modality)
        return Letters(self.alphabet, given)

    @property
    def positions(self) -> int:
        return self.input.length

    def __call__(self, batch: Inputs) -> Inputs:
        return batch

    def example(self, count: int) -> Batch:
        return padded(self.noise(count))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: those of the input's section."""
        return self.input.model_dump()

    @property
    def described(self) -> str:
        return f"{self.alphabet.noun}s of the first {self.input.length:,} letters"


def preprocessing(
    content: Mapping[str, Any], section: Callable[[Mapping[str, Any]], SequenceInput], keys: Sequence[str], of: Alphabet
) -> "Tokens | Letters":
    """The inverse of `to_dict` for sequences of an alphabet; `section` makes the input's section of its `keys`.

    Raises:
        InputError: a value is missing or wrong, or the number of tokens is not that of the section.
    """
    try:
        given = section({name: content[name] for name in keys})
        if "tokens" not in content:
            return Letters(of, given)
        found, tokens = Tokens(of, given), int(content["tokens"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"not a preprocessing of {of.noun}s: {str(content)[:200]}") from error
    if found.channels != tokens:
        raise InputError(f"{tokens} tokens are not those of {given.k} {of.noun}s, which are {found.channels}.")
    return found
