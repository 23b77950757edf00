"""Plain letters, or one record of FASTA, become stored arrays: letters of the alphabet in upper case, one byte each."""

import codecs
import re

import numpy as np

from headstart.modalities import Decoded, UnreadableSample
from headstart.modalities._sequences.alphabet import Alphabet
from headstart.modalities._sequences.section import SequenceInput

_WHITE = b" \t\r\n\v\f"
_GAPS = b"-.~"
_RECORD = re.compile(rb"^>", re.MULTILINE)


def decode(raw: bytes, given: SequenceInput, alphabet: Alphabet) -> Decoded:
    """uint8 (length,), and facts: the number of `letters`, that of `ambiguous` ones among those that are stored, the
    `counts` of each letter of the alphabet there, and whether the sequence was `cut`.

    White space and the case of letters mean nothing, nor does the alphabet's end after the last letter.

    Raises:
        UnreadableSample: it holds another character, several records, or no letter.
    """
    found = _without_header(raw.removeprefix(codecs.BOM_UTF8)).translate(None, _WHITE)
    letters = found.removesuffix(alphabet.end.encode())
    if not letters:
        raise UnreadableSample("it is empty")
    stored = letters.translate(alphabet.stored)
    if (wrong := stored.find(0)) >= 0:
        raise UnreadableSample(_refusal(letters[wrong], wrong, alphabet))
    kept = np.frombuffer(stored[: given.length], dtype=np.uint8)
    counts = np.bincount(alphabet.numbers[kept], minlength=len(alphabet.letters) + 1).tolist()
    facts = {"letters": len(stored), "ambiguous": counts[-1], "counts": counts[:-1], "cut": len(stored) > len(kept)}
    return Decoded(kept, facts)


def _without_header(raw: bytes) -> bytes:
    """The lines of letters of a sample that may be a record of FASTA."""
    if not raw.lstrip(_WHITE).startswith(b">"):
        return raw
    if len(found := _RECORD.findall(raw, 0)) > 1:
        raise UnreadableSample(
            f"it holds {len(found)} records of FASTA, each of which is a sample; name the file itself as the data"
        )
    return raw.lstrip(_WHITE).partition(b"\n")[2]


def _refusal(byte: int, place: int, alphabet: Alphabet) -> str:
    if byte == 0:
        return f"it holds NUL at position {place + 1}, as files do that are no text or not in utf-8"
    shown = f"'{chr(byte)}'" if 32 < byte < 127 else f"byte 0x{byte:02x}"
    remedy = f"the letters are {alphabet.letters}, and {alphabet.ambiguous} for several"
    if byte in _GAPS:
        remedy = "take the gaps of an alignment out"
    elif chr(byte).upper() in alphabet.foreign:
        remedy = alphabet.remedy
    return f"it has {shown} at position {place + 1}, which stands for no {alphabet.noun}; {remedy}"
