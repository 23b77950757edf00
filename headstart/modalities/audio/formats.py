"""The formats of sound files: by the extension of their names, and by the first bytes of their content."""

FORMAT_OF = {".flac": "FLAC", ".mp3": "MP3", ".oga": "Ogg", ".ogg": "Ogg", ".wav": "WAV"}

# An ID3 tag's head: its mark, version, flags and length, four digits of seven bits.
_TAG = 10
# Files have one or two; decoders skip millions one by one.
_MOST_TAGS = 8
# A page of Ogg has a head of this length, whose last byte counts the lengths of its segments, which follow.
_PAGE = 27
# Lengths that a WAV file has whose writer could not know its end, such as a pipe.
_UNKNOWN_LENGTHS = (0, 2**32 - 1)


def format_of(raw: bytes) -> str | None:
    """The format of a file's content by its first bytes; None if it is none of those that are read."""
    start = 0
    for _ in range(_MOST_TAGS):
        if raw[start : start + 3] != b"ID3":
            break
        digits = raw[start + 6 : start + _TAG]
        start += _TAG + sum((digit & 0x7F) << shift for digit, shift in zip(digits, (21, 14, 7, 0), strict=False))
    else:
        return None
    if start:
        # FLAC files may have tags of MP3's before their own head.
        return "FLAC" if raw[start : start + 4] == b"fLaC" else "MP3"
    if raw[:4] in (b"RIFF", b"RF64") and raw[8:12] == b"WAVE":
        return "WAV"
    if raw.startswith(b"fLaC"):
        return "FLAC"
    if raw.startswith(b"OggS"):
        return "Ogg"
    # A frame's eleven bits of ones, of layer 3, with a bit rate and a sampling rate that exist.
    is_frame = len(raw) > 2 and raw[0] == 0xFF and raw[1] & 0xE6 == 0xE2
    return "MP3" if is_frame and raw[2] & 0xF0 != 0xF0 and raw[2] & 0x0C != 0x0C else None


def contradiction(raw: bytes, extension: str) -> str | None:
    """Why a file is refused whose content is of another known format than its extension says; None elsewhere."""
    named, found = FORMAT_OF.get(extension), format_of(raw)
    if named is None or found in (None, named):
        return None
    return f"its name says {named}, but its content is {found}; rename it"


def is_cut_short(raw: bytes) -> bool:
    """Whether the content of a WAV or Ogg file ends before its own head says so. FLAC shows that when it is decoded; an
    MP3 file has no end."""
    if raw[:4] in (b"RIFF", b"RF64"):
        # The length of RF64, of 64 bits, is in its first chunk.
        length = int.from_bytes(raw[4:8] if raw[:4] == b"RIFF" else raw[20:28], "little")
        return length not in _UNKNOWN_LENGTHS and length > len(raw) - 8
    if raw.startswith(b"OggS"):
        start = raw.rfind(b"OggS")
        segments = raw[start + _PAGE - 1] if len(raw) >= start + _PAGE else 0
        lengths = raw[start + _PAGE : start + _PAGE + segments]
        return len(raw) < start + _PAGE + segments + sum(lengths)
    return False
