"""Memory for decoding, which the threads of a process share."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class NoRoom(Exception):  # noqa: N818 - a state that passes
    """The memory was not free within the time that the caller was ready to wait."""


class Room:
    """A budget of bytes, of which each decoding takes a share and gives it back.

    What alone needs more than there is gets all of it: it works alone.
    """

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def take(self, need: int, patience: float | None = None) -> Iterator[None]:
        """Holds `need` bytes, once they are free.

        Raises:
            NoRoom: they were not within `patience` seconds; None waits for as long as it takes.
        """
        share = min(need, self._size)
        with self._changed:
            if not self._changed.wait_for(lambda: self._free >= share, patience):
                raise NoRoom
            self._free -= share
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._changed.notify_all()
