"""What docs/scaling.md counts, as the code does it."""

import math


def requests(count: int, parts: int, shards: int) -> int:
    """The requests to S3 of a preparation in parts whose objects and state lie there, reads of the objects included."""
    listings = (parts + 1) * (math.ceil(count / 1000) + 1) + (2 * parts + 1) * math.ceil(2 * shards / 1000)
    return count + listings + 6 * shards
