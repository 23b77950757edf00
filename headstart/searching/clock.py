"""The budget of a search: minutes that several sessions spend together."""

import math
import time


class OutOfTime(Exception):  # noqa: N818 - nothing failed
    """The budget ended while something was at work."""


class Clock:
    """Seconds that were spent, those of earlier sessions included, and that are left of `limit`."""

    def __init__(self, limit: float = math.inf, spent: float = 0.0) -> None:
        self.limit, self._before, self._begun = limit, spent, time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds of all sessions."""
        return self._before + time.monotonic() - self._begun

    @property
    def left(self) -> float:
        """Seconds until the budget ends, 0 where it has."""
        return max(0.0, self.limit - self.spent)

    @property
    def over(self) -> str:
        """What a search says that ends with the budget."""
        return f"the {self.limit / 60:g} minutes were over"

    def check(self) -> None:
        """Raise OutOfTime where nothing is left."""
        if not self.left:
            raise OutOfTime
