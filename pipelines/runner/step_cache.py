"""Reuse of steps between local runs: a cache that is true to content, wherever its workspace lies.

It knows an artifact by a digest of its content: a damaged artifact is made again, and a workspace that was moved or
copied reuses its steps.
"""

import dataclasses
import hashlib
import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.storage.digests import json_digest, sha256_of
from headstart.storage.local import write_json
from headstart_pipelines.runner.artifact import Artifact, replaced, restored

# What differs between two executions of a step that give the same.
_INCIDENTAL = ("run_id", "seconds")


class StepCache:
    """The outputs of the steps of a workspace's earlier runs, by what went into them. Threads may share it."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        # Of artifacts that this run has looked at; nobody changes them meanwhile.
        self._digests: dict[str, str] = {}
        self._lock = threading.Lock()

    def compute_key(
        self,
        component: str,
        image: str,
        command: Sequence[str],
        arguments: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """The key of a task: its code, its arguments and the content of its input artifacts."""
        content = [component, image, list(command), replaced(dict(arguments), self._content), dict(environment or {})]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

    def get(self, key: str) -> dict[str, Any] | None:
        """The outputs that are kept under `key`; None if there are none, or not as they were made."""
        entry = self._entry(key)
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
            outputs: dict[str, Any] = restored(
                kept["outputs"], lambda artifact: dataclasses.replace(artifact, uri=str(artifacts[artifact.uri]))
            )
            return dict(outputs)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            print(f"headstart: {entry} is damaged; its step runs again.", file=sys.stderr)
            entry.unlink(missing_ok=True)
            return None

    def put(self, key: str, outputs: dict[str, Any]) -> None:
        """Keeps the outputs of a task under `key`; an artifact that was not written is never reused."""
        paths: list[str] = []
        replaced(outputs, lambda artifact: paths.append(artifact.uri))
        if not all(map(os.path.exists, paths)):
            return
        places = {path: os.path.relpath(path, self._workspace) for path in paths}
        kept = {
            "outputs": replaced(outputs, lambda made: dataclasses.replace(made, uri=places[made.uri]).to_dict()),
            "digests": {place: self._digest(path) for path, place in places.items()},
        }
        entry = self._entry(key)
        entry.parent.mkdir(parents=True, exist_ok=True)
        write_json(entry, kept)

    def _entry(self, key: str) -> Path:
        return self._workspace / "cache" / f"{key}.json"

    def _content(self, artifact: Artifact) -> list[Any]:
        """The content of an artifact: the same wherever it lies and whichever run made it."""
        metadata = {name: fact for name, fact in artifact.metadata.items() if name not in _INCIDENTAL}
        return [artifact.title, artifact.name, self._digest(artifact.uri), metadata]

    def _digest(self, path: str) -> str:
        # Steps beside each other share what went before them, and it is read once.
        with self._lock:
            if path not in self._digests:
                self._digests[path] = _digest(Path(path))
            return self._digests[path]


def _digest(path: Path) -> str:
    """The SHA-256 of a file, or of the names and contents of a folder's files; "" where nothing is."""
    if path.is_file():
        return sha256_of(path)
    if not path.is_dir():
        return ""
    listing = [(file.relative_to(path).as_posix(), _digest(file)) for file in path.rglob("*") if file.is_file()]
    return json_digest(sorted(listing))
