"""How much is read of data that somebody else made: beyond these, a file or an archive is refused, not tried.

A picture's own limit, in pixels, is the modality's.
"""

MIB = 2**20

MAX_BYTES = 256 * MIB
"""Of one sample's file."""

MAX_ENTRIES = 2_000_000
"""Files of an archive, rows of a manifest, samples of an array."""

MAX_RATIO = 200
"""How many times larger than its packed form something may be. Pictures and arrays of pixels stay far below; deflate
itself goes up to 1032, which is what bombs use."""

SMALL = 64 * MIB
"""Up to so many bytes, what is unpacked may have any ratio: a few blank pictures are no bomb."""


def allowed(packed: int) -> int:
    """How many bytes may come out of so many packed ones."""
    return max(SMALL, MAX_RATIO * packed)


FEW_ENTRIES = 100_000
"""Up to so many files, an archive may hold files of any size. Each takes kilobytes of memory."""

ENTRY_BYTES = 2**10
"""Of an archive for each of its files, where it has more than that: pictures take as many, and bombs do not."""


def allowed_entries(packed: int) -> int:
    """How many files an archive of so many bytes may have."""
    return min(MAX_ENTRIES, max(FEW_ENTRIES, packed // ENTRY_BYTES))
