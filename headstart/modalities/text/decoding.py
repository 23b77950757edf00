"""Files of text become stored arrays: their beginning as UTF-8, one byte a value.

A byte order mark says how a file is encoded, the recipe's section elsewhere; nothing is guessed, for bytes of one
encoding are letters of another.
"""

import codecs
import unicodedata
from collections import Counter
from functools import lru_cache

import numpy as np

from headstart.modalities import Decoded, UnreadableSample
from headstart.modalities.text.section import TextInput

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Files are checked to their end, so many bytes at a time: the text of one of 200 MB would take a gigabyte.
_CHUNK = 2**20
# Without a mark, UTF-16 is little-endian, as Windows writes it.
_CODECS = {"utf-16": "utf-16-le"}


def decode(raw: bytes, given: TextInput) -> Decoded:
    """uint8 (length,), UTF-8 without outer white space, and the text's `characters`, `words`, `encoding`, the `script`
    of most of its letters, and whether it was `cut`; of a text that was cut, words and script are of what is stored.

    Raises:
        UnreadableSample: it is in another encoding, holds NUL, or no text.
    """
    mark, encoding = next(((mark, name) for mark, name in _MARKS if raw.startswith(mark)), (b"", given.encoding))
    decoder = codecs.getincrementaldecoder(_CODECS.get(encoding, encoding))()
    text, characters, start = "", 0, len(mark)
    while start < len(raw):
        chunk = raw[start : start + _CHUNK]
        # What an incremental decoder keeps of the chunk before counts from its own beginning.
        kept = len(decoder.getstate()[0])
        try:
            found = decoder.decode(chunk, start + len(chunk) == len(raw))
        except UnicodeDecodeError as error:
            raise UnreadableSample(_wrong(encoding, start - kept + error.start, raw)) from None
        if "\0" in found:
            raise UnreadableSample(f"it holds NUL, as files do that are no text or not in {encoding}")
        characters += len(found)
        if len(text) < given.most_bytes:
            text = (text + found[: given.most_bytes + _CHUNK]).lstrip()
        start += len(chunk)
    text = text.replace("\r\n", "\n").rstrip()
    if not text:
        raise UnreadableSample("it is empty")
    stored = text.encode()
    cut = len(stored) > given.most_bytes or characters > len(text) + _CHUNK
    if len(stored) > given.most_bytes:
        stored = stored[: given.most_bytes].decode("utf-8", "ignore").encode()
        text = stored.decode()
    facts = {
        "characters": characters,
        "words": len(text.split()),
        "encoding": encoding,
        "script": script_of(text),
        "cut": cut,
    }
    return Decoded(np.frombuffer(stored, dtype=np.uint8), facts)


def script_of(text: str) -> str:
    """The script of most letters, in lower case: latin, cyrillic, cjk; none where there are no letters."""
    counts: Counter[str] = Counter()
    for letter, count in Counter(text).items():
        if letter.isalpha():
            counts[_script(letter)] += count
    return min(counts, key=lambda name: (-counts[name], name)) if counts else "none"


@lru_cache(maxsize=2**14)
def _script(letter: str) -> str:
    # Unicode names a letter by its script first: LATIN SMALL LETTER A.
    return unicodedata.name(letter, "unknown").partition(" ")[0].lower()


def _wrong(encoding: str, offset: int, raw: bytes) -> str:
    byte = f"byte 0x{raw[offset]:02x} at offset {offset}" if offset < len(raw) else "its end"
    return (
        f"it is not {encoding}: {byte} does not fit; save it as utf-8, or name its encoding by input: {{encoding: …}}"
    )
