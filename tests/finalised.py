"""Where Python drops what is raised."""

from collections.abc import Callable


class Finalised:
    """Does something while it is finalised, at once if nobody keeps it."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action

    def __del__(self) -> None:
        self.action()
