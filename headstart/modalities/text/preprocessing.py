"""Preprocessing: stored texts become token ids and a mask, by a tokenizer that is part of the model's description."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from headstart.errors import InputError, first_line
from headstart.modalities.batch import Batch, Inputs
from headstart.modalities.preprocessing import Preprocessing, Samples
from headstart.modalities.text.section import TextInput
from headstart.modalities.tokens import TokenPreprocessing
from headstart.sections import Section

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# A token takes as much of a transformer as a patch of 16 x 16 pixels does.
_POSITIONS_PER_TOKEN = 256
# Of the tokenizers that are trained here: with more, tokens come too rarely in a training split to be learned.
_MOST_TOKENS = 8192
_LEAST_FREQUENCY = 2
_PAD, _MASK = "<pad>", "<mask>"
_MASKS = (_MASK, "[MASK]")
_READ = 256  # samples that are in memory at a time
LARGEST_TOKENIZER = 32 * 2**20
_LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz    ", dtype=np.uint8)


def tokenizer_of(content: str) -> "Tokenizer":
    """The tokenizer that a tokenizer.json describes.

    Raises:
        InputError: it is larger than 32 MB, or describes none.
    """
    if len(content) > LARGEST_TOKENIZER:
        raise InputError("The tokenizer is larger than 32 MB; choose a model with a smaller one.")
    try:
        return tokenizers().Tokenizer.from_str(content)
    # The library raises plain exceptions.
    except Exception as error:
        raise InputError(f"The text is no tokenizer ({first_line(error)}); save it again as tokenizer.json.") from None


def texts_of(samples: Samples) -> Iterator[str]:
    """The texts of stored samples, a few of which are in memory at a time."""
    for start in range(0, len(samples), _READ):
        for values in samples[start : start + _READ]:
            yield values.tobytes().decode("utf-8", "replace")


def padded(samples: Sequence[np.ndarray]) -> Batch:
    """Stored texts as `bytes`, uint8 (N, L), filled up with 0, and `kept`, bool (N, L), which tells what is text."""
    longest = max((len(each) for each in samples), default=0)
    values = np.zeros((len(samples), longest), dtype=np.uint8)
    lengths = np.array([len(each) for each in samples], dtype=np.int64)
    for row, each in enumerate(samples):
        values[row, : len(each)] = each
    kept = np.arange(longest) < lengths[:, None]
    return Batch({"bytes": torch.from_numpy(values), "kept": torch.from_numpy(kept)})


class _OfTexts(Preprocessing):
    """What both kinds have in common: how texts are decoded, and what a request may hold."""

    input: TextInput

    @property
    def given(self) -> TextInput:
        return self.input

    def noise(self, count: int) -> list[np.ndarray]:
        """Words of random letters, 40 to 200 bytes."""
        generator = np.random.default_rng(0)
        lengths = generator.integers(40, 200, count)
        return [_LETTERS[generator.integers(0, len(_LETTERS), length)] for length in lengths]

    @property
    def stored_form(self) -> str:
        return "texts, or their bytes in UTF-8 of shape (N, length), shorter ones filled up with 0"

    def checked(self, values: np.ndarray) -> list[np.ndarray]:
        """The texts of a request that gives bytes, (N, length): whole numbers from 0 to 255."""
        if values.ndim != 2 or values.dtype.kind not in "ui" or (values.size and not 0 <= values.min() <= 255):
            raise InputError(f"The samples are {values.dtype} of shape {values.shape}; give {self.stored_form}.")
        if values.size and values.max() > 255:
            raise InputError(f"The samples reach to {values.max()}, and bytes to 255; give {self.stored_form}.")
        rows = [np.trim_zeros(row, "b").astype(np.uint8)[: self.input.most_bytes] for row in values]
        for number, row in enumerate(rows):
            try:
                text = row.tobytes().decode()
            except UnicodeDecodeError as error:
                raise InputError(f"Text {number} is no UTF-8 ({first_line(error)}); encode it so.") from None
            if not text.strip():
                raise InputError(f"Text {number} is empty; leave it out.")
        return rows


@dataclass(frozen=True)
class Tokens(_OfTexts, TokenPreprocessing):
    """How texts are decoded, the tokenizer as JSON, and what the network takes: ids below `channels`, the rows of its
    embedding, and at most `most` tokens."""

    input: TextInput
    tokenizer: str
    channels: int
    most: int

    in_programs = False

    def __post_init__(self) -> None:
        if self.channels < 1 or self.most < 1:
            raise InputError(
                f"preprocessing of texts needs a vocabulary and a length, not {self.channels} and {self.most}"
            )

    @classmethod
    def fit(cls, samples: Samples, given: TextInput) -> "Tokens":
        """Byte-level byte pairs (Sennrich, Haddow and Birch 2016; Radford et al. 2019) of lower-case text, 8192 tokens
        at most, each seen twice in the samples. Give it the training split only."""
        library = tokenizers()
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.normalizer = library.normalizers.Sequence(
            [library.normalizers.NFKC(), library.normalizers.Lowercase()]
        )
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=_MOST_TOKENS,
            min_frequency=_LEAST_FREQUENCY,
            special_tokens=[_PAD, _MASK],
            # Sorted, as a set's order differs from run to run.
            initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts_of(samples), trainer)
        return cls(given, tokenizer.to_str(), tokenizer.get_vocab_size(), given.length)

    def read_as(self, given: Section) -> "Tokens":
        assert isinstance(given, TextInput)  # noqa: S101 (that of this modality)
        return replace(self, input=given)

    @property
    def length(self) -> int:
        """The number of tokens that are read of a text at most."""
        return min(self.most, self.input.length)

    @property
    def positions(self) -> int:
        return _POSITIONS_PER_TOKEN * self.length

    @property
    def mask_id(self) -> int | None:
        """The id of the token that stands for a hidden one; None where the tokenizer has none."""
        found = (_ready(self.tokenizer, self.length).token_to_id(name) for name in _MASKS)
        return next((each for each in found if each is not None), None)

    @property
    def special_ids(self) -> list[int]:
        """The ids of the tokens that stand for no part of a text, rising."""
        added = _ready(self.tokenizer, self.length).get_added_tokens_decoder()
        return sorted(number for number, token in added.items() if token.special)

    def __call__(self, batch: Inputs) -> Batch:
        """`bytes`, uint8 (N, B), and `kept`, bool (N, B), become `ids`, int64 (N, L), and `mask`, bool (N, L), which
        tells tokens from padding; L is the length of the longest text in tokens. At least one token of each is read."""
        assert isinstance(batch, Batch)  # noqa: S101 (the modality's own)
        values, kept = (batch.tensors[name].cpu().numpy() for name in ("bytes", "kept"))
        texts = [row[of_text].tobytes().decode("utf-8", "replace") for row, of_text in zip(values, kept, strict=True)]
        found = [each.ids for each in _ready(self.tokenizer, self.length).encode_batch_fast(texts)]
        longest = max(1, max((len(each) for each in found), default=1))
        ids, mask = np.zeros((len(found), longest), dtype=np.int64), np.zeros((len(found), longest), dtype=bool)
        mask[:, 0] = True
        for row, each in enumerate(found):
            ids[row, : len(each)], mask[row, : len(each)] = each, True
        return Batch({"ids": torch.from_numpy(ids), "mask": torch.from_numpy(mask)}).to(batch.device)

    def spans(self, sample: np.ndarray) -> np.ndarray:
        text = sample.tobytes().decode("utf-8", "replace")
        # The library counts characters.
        place = np.concatenate([[0], np.cumsum([len(letter.encode()) for letter in text])]).astype(np.int64)
        offsets = _ready(self.tokenizer, self.length).encode(text).offsets
        return place[np.array(offsets, dtype=np.int64).reshape(-1, 2)]

    def example(self, count: int) -> Batch:
        ids = torch.arange(count * self.length).reshape(count, self.length) % self.channels
        return Batch({"ids": ids, "mask": torch.ones(count, self.length, dtype=torch.bool)})

    @property
    def longest_input(self) -> int:
        return self.length

    @property
    def program_form(self) -> str:
        return f"int64 token ids and a bool mask of shape (N, L), L at most {self.length}, by the model's tokenizer"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: those of the input's section, `tokenizer`, itself JSON, `vocabulary` and `most`."""
        return {
            **self.input.model_dump(),
            "tokenizer": self.tokenizer,
            "vocabulary": self.channels,
            "most": self.most,
        }

    @property
    def described(self) -> str:
        return f"texts of at most {self.length} tokens, of a vocabulary of {self.channels:,}"


@dataclass(frozen=True)
class Bytes(_OfTexts):
    """Texts as they are stored, which descriptors are computed of."""

    input: TextInput

    channels = 1

    def read_as(self, given: Section) -> "Bytes":
        assert isinstance(given, TextInput)  # noqa: S101 (that of this modality)
        return Bytes(given)

    @property
    def positions(self) -> int:
        return self.input.most_bytes

    def __call__(self, batch: Inputs) -> Inputs:
        return batch

    def example(self, count: int) -> Batch:
        return padded(self.noise(count))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: those of the input's section."""
        return self.input.model_dump()

    @property
    def described(self) -> str:
        return f"texts of at most {self.input.most_bytes} bytes"


def preprocessing(content: Mapping[str, Any]) -> "Tokens | Bytes":
    """The inverse of `to_dict`.

    Raises:
        InputError: a value is missing or wrong, or the tokenizer has ids beyond the vocabulary.
    """
    try:
        given = TextInput.of({name: content[name] for name in TextInput.model_fields})
        if "tokenizer" not in content:
            return Bytes(given)
        tokenizer, vocabulary, most = str(content["tokenizer"]), int(content["vocabulary"]), int(content["most"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"not a preprocessing of texts: {str(content)[:200]}") from error
    check_ids(tokenizer, vocabulary)
    return Tokens(given, tokenizer, vocabulary, most)


def check_ids(tokenizer: str, vocabulary: int) -> None:
    """InputError if a tokenizer is none, or has tokens that a network with `vocabulary` of them does not know."""
    largest = max(tokenizer_of(tokenizer).get_vocab(with_added_tokens=True).values(), default=-1)
    if not 0 <= largest < vocabulary:
        raise InputError(
            f"The tokenizer numbers its tokens to {largest}, and the network knows {vocabulary}; take both from one "
            "model."
        )


def plain_json(content: str) -> str:
    """A tokenizer.json without its settings of padding and truncation, which are the network's, on one line."""
    try:
        described = json.loads(content)
    except (ValueError, RecursionError):
        described = None
    if not isinstance(described, dict):
        raise InputError("The tokenizer is no JSON object; save it again as tokenizer.json.")
    return json.dumps({**described, "truncation": None, "padding": None}, ensure_ascii=False, separators=(",", ":"))


@lru_cache(maxsize=8)
def _ready(content: str, length: int) -> "Tokenizer":
    """The tokenizer, which reads at most `length` tokens of a text and adds those that its network begins and ends
    with."""
    tokenizer = tokenizer_of(content)
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    return tokenizer


def tokenizers() -> Any:
    """The package tokenizers. InputError, with what to install, where it is missing."""
    try:
        import tokenizers as package
    except ImportError as error:
        raise InputError("Texts need the package tokenizers; install it with: pip install 'headstart[text]'") from error
    return package
