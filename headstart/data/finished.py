"""Store of prepared data sets in the state: data prepared once, for any experiment, is not prepared again.

`prepared/<key>/` holds a data set's files and, written last, finished.json with the digest of each and the MLflow run
that prepared it. The key is a digest of everything that determines the content.
"""

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.data.dataset import FORMAT_VERSION, Dataset
from headstart.data.section import Data
from headstart.data.streaming import store_limit
from headstart.errors import HeadstartError
from headstart.storage.digests import json_digest, sha256_of
from headstart.storage.local import new_directory, write_json
from headstart.storage.state import State
from headstart.version import CODE_VARIABLE, __version__

_FOLDER = "prepared"
_FACTS = "finished.json"

log = logging.getLogger(__name__)


class FinishedData:
    """The place in the state for the data set that results from some work.

    Args:
        work: JSON values that determine the content: the data's fingerprint, the packing, the seed. The version of
            headstart and, if `HEADSTART_CODE` is set, the digest of the code are added to the key.
    """

    def __init__(self, state: State, work: Mapping[str, Any]) -> None:
        content = {
            "work": work,
            "format": FORMAT_VERSION,
            "version": __version__,
            "code": os.environ.get(CODE_VARIABLE),
        }
        self._state, self._place = state, f"{_FOLDER}/{json_digest(content)}"

    @classmethod
    def of(cls, data: Data, role: str, *, modality: str, seed: int) -> "FinishedData | None":
        """The place for what preparing `data` as source or target gives; None without a state, or where nothing tells
        what the data's content is."""
        state = State.from_environment() if data.fingerprint else None
        settings = {
            **data.model_dump(),
            "store_limit": store_limit(),
            "labels": data.labels_for(role),
            "modality": modality,
            "seed": seed,
        }
        return cls(state, settings) if state else None

    @property
    def is_there(self) -> bool:
        """Whether the data set has been kept."""
        return f"{self._place}/{_FACTS}" in self._state.names(f"{self._place}/")

    def fetch(self, destination: Path) -> str | None:
        """Copy the data set to `destination` and return the MLflow run that prepared it; None if there is none."""
        try:
            with new_directory(destination) as draft:
                facts = json.loads(self._file(_FACTS, draft).read_bytes())
                (draft / _FACTS).unlink()
                for name, digest in facts["files"].items():
                    if sha256_of(self._file(name, draft)) != digest:
                        raise ValueError(f"{name} is damaged")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError) as problem:
            log.warning("The data set %s in the state cannot be used (%s); it is prepared again.", self._place, problem)
            return None
        return str(facts["run"])

    def keep(self, packed: Dataset, run_id: str) -> None:
        """Store the data set that the MLflow run `run_id` prepared, and delete those older than 14 days.

        A failure is only logged: it costs a later preparation.
        """
        try:
            self._state.forget(f"{_FOLDER}/")
            files = sorted(path for path in packed.path.iterdir() if path.is_file())
            for file in files:
                self._state.put(file, f"{self._place}/{file.name}")
            with tempfile.TemporaryDirectory() as folder:
                facts = Path(folder, _FACTS)
                write_json(facts, {"files": {file.name: sha256_of(file) for file in files}, "run": run_id})
                self._state.put(facts, f"{self._place}/{_FACTS}")
        except (OSError, HeadstartError) as error:
            log.warning(
                "The data set could not be kept in the state (%s); another experiment prepares it again.", error
            )

    def _file(self, name: str, folder: Path) -> Path:
        if not self._state.get(f"{self._place}/{name}", folder / name):
            raise FileNotFoundError(name) if name == _FACTS else ValueError(f"{name} is missing")
        return folder / name
