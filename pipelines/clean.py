"""Cleaning of a workspace: what nobody needs any more, and what must stay because something refers to it.

Registered models, their evidence and all runs lie in the record, which is never touched. What lies beside it saves
work: outputs of steps, features, checkpoints, packed data sets. Of these, a version's evidence refers to the data set
that it was tested on, which promotion and monitoring read; that stays, however old it is.
"""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import HeadstartError, InputError
from headstart.storage.state import STATE_VARIABLE
from headstart.tracking import registry
from headstart.tracking.client import explained, search_all
from headstart.tracking.names import MODEL_DIGEST, PARENT_RUN, PIPELINE_RUN, ROLE

if TYPE_CHECKING:
    from mlflow import MlflowClient

# A run may begin while another process cleans.
_JUST_NOW = 3600
_DAY = 86_400
_STAGING = (".headstart-draft-", ".headstart-work-")
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Waste:
    """A file or folder that can go: its path, what it is, its size in bytes and its age in days."""

    path: Path
    kind: str
    size: int
    age: float


def find_waste(client: "MlflowClient", workspace: Path, *, days: float, now: float | None = None) -> list[Waste]:
    """Return what can be removed from a workspace, largest first: what has not changed for `days`, and staging of dead
    runs that has not for a day.

    Raises:
        InputError: `days` is negative, or a run is at work in the record.
    """
    if days < 0:
        raise InputError(f"{days:g} days is no age; give 0 or more.")
    refuse_while_running(client)
    now = time.time() if now is None else now
    workspace = workspace.resolve()
    kept, all_known = referenced(client)
    found = []
    for kind, path in _candidates(workspace):
        if any(place.is_relative_to(path) for place in kept) or (not all_known and _holds_data(path)):
            continue
        size, changed = _measured(path)
        limit = _DAY if kind == "staging" else max(days * _DAY, _JUST_NOW)
        if now - changed > limit:
            found.append(Waste(path, kind, size, (now - changed) / _DAY))
    return sorted(found, key=lambda waste: -waste.size)


def remove(waste: Sequence[Waste], workspace: Path) -> int:
    """Remove what `find_waste` found, and return how many bytes that were.

    Raises:
        InputError: a path is not below the workspace.
        HeadstartError: something cannot be removed; what came before it is gone.
    """
    root, freed = workspace.resolve(), 0
    for each in waste:
        if each.path == root or not each.path.parent.resolve().is_relative_to(root):
            raise InputError(f"{each.path} is not in the workspace {workspace}; nothing outside of it is removed.")
        try:
            if each.path.is_dir() and not each.path.is_symlink():
                shutil.rmtree(each.path)
            else:
                each.path.unlink(missing_ok=True)
        except OSError as error:
            raise HeadstartError(f"{each.path} cannot be removed ({error.strerror}); see who owns it.") from error
        freed += each.size
    return freed


@explained()
def refuse_while_running(client: "MlflowClient") -> None:
    """Check that no pipeline run and no search is at work in the record.

    Raises:
        InputError: one is; it is named.
    """
    ids = [each.experiment_id for each in search_all(client.search_experiments)]
    for what in (f"tags.`{PIPELINE_RUN}` LIKE '%'", f"tags.`{ROLE}` = 'search'"):
        running = f"attributes.status = 'RUNNING' and {what}"
        for run in search_all(client.search_runs, ids, running) if ids else ():
            if PARENT_RUN not in run.data.tags:
                raise InputError(f"The run {run.info.run_name} is at work; clean when it has ended.")


@explained()
def referenced(client: "MlflowClient") -> tuple[set[Path], bool]:
    """Return the packed data sets that registered versions were tested on, with links resolved, and whether those of
    all versions are known."""
    kept, all_known = set(), True
    for version in search_all(client.search_model_versions):
        if not version.tags.get(MODEL_DIGEST):
            continue
        try:
            place = registry.evidence(client, version).dataset
        except HeadstartError:
            all_known = False
            continue
        if "://" not in place:
            # Both the place itself and what it is a link to.
            kept |= {Path(place).absolute(), Path(place).resolve()}
    return kept, all_known


def _candidates(workspace: Path) -> Iterator[tuple[str, Path]]:
    """What may go, with what it is; each lies in the workspace, and none in another one."""
    for run in _children(workspace / "pipeline"):
        yield from (("step", path) for path in _children(run))
    state = workspace / "state"
    if os.environ.get(STATE_VARIABLE, str(state)) == str(state):
        for folder in _children(state):
            if folder.name == ".drafts":
                yield from (("staging", path) for path in _children(folder))
            else:
                yield from ((folder.name, path) for path in _children(folder) if not path.name.startswith("."))
    for path in _children(workspace / "rank"):
        yield ("staging" if path.name.startswith(_STAGING) else "data set of rank"), path
    yield from (("search", path) for path in _children(workspace / "search"))
    yield from (("cache", path) for path in _children(workspace / "cache"))


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []


def _holds_data(path: Path) -> bool:
    """Whether there is a packed data set."""
    return path.is_dir() and any(_MANIFEST in files for _, _, files in os.walk(path))


def _measured(path: Path) -> tuple[int, float]:
    """The size in bytes of a file or folder, and when something in it was last written; links are not followed."""
    found = path.lstat()
    size, changed, seen = found.st_size, found.st_mtime, set()
    for place, _, files in () if path.is_symlink() else os.walk(path):
        for name in files:
            entry = (Path(place) / name).lstat()
            changed = max(changed, entry.st_mtime)
            if entry.st_ino not in seen:
                seen.add(entry.st_ino)
                size += entry.st_size
    return size, changed
