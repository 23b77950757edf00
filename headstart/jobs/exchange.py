"""Files that a step and the processes that train for it, here or on other machines, hand each other."""

import json
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError, InputError
from headstart.storage import s3
from headstart.storage.local import write_json
from headstart.storage.state import State

RESULT = "result.json"

# Kinds of errors: a user's, another that headstart explains, the loss of another process, anything else.
_INPUT, _EXPLAINED, _MISSED, _UNEXPLAINED = "input", "explained", "missed", "unexplained"


class Exchange:
    """The files of one training below `folder` of the state at `location`, which every process of it can reach."""

    def __init__(self, location: str, folder: str) -> None:
        self.location = location if s3.is_s3(location) else str(Path(location).absolute())
        self.folder = folder
        self._state = State(location)

    def write(self, name: str, values: Any) -> None:
        """Write JSON values to `name`, whole or not at all."""
        with self._state.draft() as draft:
            write_json(draft, values)
            self._state.put(draft, f"{self.folder}/{name}")

    def read(self, name: str) -> Any:
        """The JSON values in `name`; None if it is not there."""
        with self._state.draft() as draft:
            if not self._state.get(f"{self.folder}/{name}", draft):
                return None
            return json.loads(draft.read_bytes())

    def send(self, directory: Path, name: str, files: Sequence[str]) -> None:
        """Copy `files` of `directory` to `name`."""
        for file in files:
            self._state.put(directory / file, f"{self.folder}/{name}/{file}")

    def receive(self, name: str, directory: Path) -> Path:
        """Copy the files of `name` to the new directory `directory`/`name`, and return that."""
        path = directory / name
        path.mkdir(parents=True)
        prefix = f"{self.folder}/{name}/"
        for found in self._state.names(prefix):
            self._state.get(found, path / found.removeprefix(prefix))
        return path

    def remove(self, *names: str) -> None:
        """Remove `names` and all that is below them."""
        for name in names:
            for found in self._state.names(f"{self.folder}/{name}"):
                self._state.remove(found)

    def has_result(self) -> bool:
        """Whether the training is done: its result is written last."""
        return RESULT in (name.removeprefix(f"{self.folder}/") for name in self._state.names(f"{self.folder}/{RESULT}"))

    def write_error(self, rank: int, error: Exception) -> None:
        """Keep the reason why the process `rank` failed."""
        told = str(error) if isinstance(error, HeadstartError) else traceback.format_exception_only(error)[-1].strip()
        self.write(f"errors/{rank}.json", {"kind": _kind(error), "message": told, "time": time.time()})

    def failure(self, silent: str) -> HeadstartError:
        """Why the training failed: the error of the process that failed first, or `silent` where none left its own.

        When one fails, the others lose their connection to it and fail as well: that is no cause. An error that
        headstart explains goes before any other.
        """
        prefix = f"{self.folder}/"
        found = [
            (name, self.read(name.removeprefix(prefix)))
            for name in self._state.names(f"{prefix}errors/")
        ]  # fmt: skip
        causes = [(name, error) for name, error in found if error["kind"] != _MISSED]
        if not causes:
            return HeadstartError(silent)
        name, first = min(causes, key=lambda cause: (cause[1]["kind"] == _UNEXPLAINED, cause[1]["time"]))
        if first["kind"] == _UNEXPLAINED:
            return HeadstartError(f"Process {Path(name).stem} of the training failed: {first['message']}")
        return (InputError if first["kind"] == _INPUT else HeadstartError)(first["message"])


def _kind(error: Exception) -> str:
    from torch.distributed import DistError

    if isinstance(error, HeadstartError):
        return _INPUT if isinstance(error, InputError) else _EXPLAINED
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    # Raised where processes talk to each other: the other end was not there.
    missed = isinstance(error, DistError) or (modules and modules[-1].startswith("torch.distributed"))
    return _MISSED if missed else _UNEXPLAINED
