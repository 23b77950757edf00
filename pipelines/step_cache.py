"""Reuse of steps between local runs: a cache for kfp.local that is true to content, wherever its workspace lies.

kfp.local's own cache knows an artifact by its absolute path and takes whatever lies there. This one knows it by a
digest of its content: a damaged artifact is made again, and a workspace that was moved or copied reuses its steps.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.local import cache
from kfp.local.cache import LocalCache

from headstart.storage.digests import json_digest, sha256_of
from headstart.storage.local import write_json

# What differs between two executions of a step that give the same.
_INCIDENTAL = ("run_id", "seconds")


class StepCache(LocalCache):
    """The outputs of the steps of a workspace's earlier runs, by what went into them."""

    def __init__(self, workspace: Path) -> None:
        super().__init__(str(workspace / "cache"))
        self._workspace = workspace
        # Of artifacts that this run has looked at; nobody changes them meanwhile.
        self._digests: dict[str, str] = {}

    def compute_key(
        self,
        component_name: str,
        image: str,
        full_command: list[str],
        arguments: dict[str, Any],
        env_vars: dict[str, str] | None = None,
        custom_cache_key: str | None = None,
    ) -> str:
        """The key of a task: its code, its arguments and the content of its input artifacts."""
        content = [component_name, image, full_command, _replaced(arguments, self._content), env_vars, custom_cache_key]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

    def get(self, key: str) -> dict[str, Any] | None:
        """The outputs that are kept under `key`; None if there are none, or not as they were made."""
        entry = Path(self._entry_path(key))
        try:
            kept = json.loads(entry.read_text())
            artifacts = {place: self._workspace / place for place in kept["digests"]}
            for place, path in artifacts.items():
                if not path.exists():
                    return None
                if self._digest(str(path)) != kept["digests"][place]:
                    print(f"headstart: {path} is damaged; its step runs again.", file=sys.stderr)
                    entry.unlink(missing_ok=True)
                    return None
            outputs: dict[str, Any] = self._deserialize_outputs(_moved(kept["outputs"], artifacts))
            return outputs
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            print(f"headstart: {entry} is damaged; its step runs again.", file=sys.stderr)
            entry.unlink(missing_ok=True)
            return None

    def put(self, key: str, outputs: dict[str, Any]) -> None:
        """Keeps the outputs of a task under `key`; an artifact that was not written is never reused."""
        paths: list[str] = []
        _replaced(outputs, lambda artifact: paths.append(artifact.path))
        if not all(map(os.path.exists, paths)):
            return
        places = {path: os.path.relpath(path, self._workspace) for path in paths}
        kept = {
            "outputs": _moved(self._serialize_outputs(outputs), places),
            "digests": {place: self._digest(path) for path, place in places.items()},
        }
        write_json(Path(self._entry_path(key)), kept)

    def _content(self, artifact: dsl.Artifact) -> list[Any]:
        """The content of an artifact: the same wherever it lies and whichever run made it."""
        metadata = {name: fact for name, fact in artifact.metadata.items() if name not in _INCIDENTAL}
        return [artifact.schema_title, artifact.name, self._digest(artifact.path), metadata]

    def _digest(self, path: str) -> str:
        if path not in self._digests:
            self._digests[path] = _digest(Path(path))
        return self._digests[path]


@contextlib.contextmanager
def reusing(workspace: Path) -> Iterator[None]:
    """Put the workspace's `StepCache` in the place of kfp.local's own cache; kfp offers no other place for it."""
    original, ours = cache.get_local_cache, StepCache(workspace)
    cache.get_local_cache = lambda: ours
    try:
        yield
    finally:
        cache.get_local_cache = original


def _digest(path: Path) -> str:
    """The SHA-256 of a file, or of the names and contents of a folder's files; "" where nothing is."""
    if path.is_file():
        return sha256_of(path)
    if not path.is_dir():
        return ""
    listing = [(file.relative_to(path).as_posix(), _digest(file)) for file in path.rglob("*") if file.is_file()]
    return json_digest(sorted(listing))


def _moved(kept: Any, places: dict[str, Any]) -> Any:
    """`kept` with the URIs of artifacts that are named in `places` as that has them."""
    return _replaced(kept, lambda artifact: {**artifact, "uri": str(places[artifact["uri"]])})


def _replaced(value: Any, change: Callable[[Any], Any]) -> Any:
    """A value of lists and dictionaries with each artifact in it, or what is kept of one, as `change` has it."""
    if isinstance(value, dsl.Artifact) or (isinstance(value, dict) and "__kfp_artifact__" in value):
        return change(value)
    if isinstance(value, list):
        return [_replaced(each, change) for each in value]
    return {name: _replaced(each, change) for name, each in value.items()} if isinstance(value, dict) else value
