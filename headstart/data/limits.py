"""Limits on untrusted data: files or archives beyond them are refused.

The limit for a single picture, in pixels, belongs to the modality.
"""

MIB = 2**20

MAX_BYTES = 256 * MIB
"""Maximum bytes of one sample's file."""

MAX_ENTRIES = 2_000_000
"""Maximum files of an archive, rows of a manifest, samples of an array."""

MAX_RATIO = 200
"""Largest ratio of unpacked to packed bytes. Pictures and arrays of pixels stay far below; deflate reaches 1032, which
decompression bombs use."""

SMALL = 64 * MIB
"""Up to this many unpacked bytes, any ratio is allowed: a few blank pictures are no bomb."""


def allowed(packed: int) -> int:
    """Return the number of bytes that `packed` bytes may expand to."""
    return max(SMALL, MAX_RATIO * packed)


FEW_ENTRIES = 100_000
"""Up to this many, an archive's files may have any size. Each takes kilobytes of memory."""

ENTRY_BYTES = 2**10
"""Minimum bytes per file of an archive with more than `FEW_ENTRIES` files: pictures reach it, bombs do not."""


def allowed_entries(packed: int) -> int:
    """Return the number of files that an archive of `packed` bytes may have."""
    return min(MAX_ENTRIES, max(FEW_ENTRIES, packed // ENTRY_BYTES))
