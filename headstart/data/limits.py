"""Limits on data that somebody else made: a file or an archive beyond them is refused, not tried.

A picture's own limit, in pixels, is the modality's.
"""

MIB = 2**20

MAX_BYTES = 256 * MIB
"""Bytes of one sample's file."""

MAX_ENTRIES = 2_000_000
"""Files of an archive, rows of a manifest, samples of an array."""

MAX_RATIO = 200
"""The largest ratio of unpacked to packed bytes. Pictures and arrays of pixels stay far below; deflate
itself goes up to 1032, which is what bombs use."""

SMALL = 64 * MIB
"""Up to so many bytes, what is unpacked may have any ratio: a few blank pictures are no bomb."""


def allowed(packed: int) -> int:
    """The number of bytes that `packed` bytes may expand to."""
    return max(SMALL, MAX_RATIO * packed)


FEW_ENTRIES = 100_000
"""Up to so many files, an archive may hold files of any size. Each takes kilobytes of memory."""

ENTRY_BYTES = 2**10
"""Bytes of an archive for each of its files, where it has more than `FEW_ENTRIES`: pictures take as many, bombs do
not."""


def allowed_entries(packed: int) -> int:
    """The number of files that an archive of `packed` bytes may have."""
    return min(MAX_ENTRIES, max(FEW_ENTRIES, packed // ENTRY_BYTES))
