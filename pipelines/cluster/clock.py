"""Clock of the waiting loops, replaceable in tests."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def sleep(seconds: float) -> None:
    """Wait for this many seconds."""
    time.sleep(seconds)
