"""Files of Hugging Face repositories, through huggingface_hub: its cache, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE and
token are honoured."""

import re
from pathlib import Path

from headstart.errors import InputError, first_line, shortened

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
_REVISION = re.compile(r"[\w.-]+(/[\w.-]+)*")


class Repository:
    """A repository at a revision, whose files all come from one commit."""

    def __init__(self, name: str, revision: str | None, *, uri: str) -> None:
        """InputError if the names are not such of a repository and a revision."""
        if not _REPOSITORY.fullmatch(name) or ".." in name or (revision and not _REVISION.fullmatch(revision)):
            raise InputError(f"{shortened(uri)} names no model; write hf://ORG/MODEL or hf://ORG/MODEL@REVISION.")
        self.name, self._revision, self._uri = name, revision, uri

    @property
    def commit(self) -> str | None:
        """The commit of the files that were fetched; None before the first."""
        return self._revision if self._revision and re.fullmatch(r"[0-9a-f]{40}", self._revision) else None

    def file(self, name: str) -> Path:
        """Return the path of a file, downloaded if the cache has it not.

        Raises:
            InputError: it cannot be had; the message says what to place where.
        """
        path = self.optional(name)
        if path is None:
            raise InputError(f"{self._uri}: the repository has no file {name}; choose a model that has.")
        return path

    def optional(self, name: str) -> Path | None:
        """Return the path of a file, None if the repository has no such file; else as `file`."""
        try:
            from huggingface_hub import constants, errors, hf_hub_download
        except ImportError as error:
            raise InputError(f"{self._uri} needs huggingface_hub; install headstart[timm] or [transformers]") from error
        try:
            path = Path(hf_hub_download(self.name, name, revision=self._revision))
        except errors.LocalEntryNotFoundError as error:
            if self.commit and self._is_cached():
                # Offline, what the commit's folder has not is taken for what the repository has not.
                return None
            raise InputError(
                f"{self._uri} cannot be fetched ({first_line(error.__cause__ or error)}) and {name} is not in "
                f"{constants.HF_HUB_CACHE}; where there is a network, run `hf download {self.name}` and copy that "
                "folder here, set HF_ENDPOINT to a mirror, or give the path of a folder with the model's files instead."
            ) from error
        except errors.EntryNotFoundError:
            return None
        except errors.GatedRepoError as error:
            raise InputError(
                f"{self._uri} asks for a licence to be accepted; do so on its page and set HF_TOKEN."
            ) from error
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
            raise InputError(
                f"{self._uri}: the hub has no such model or revision, or it is private; correct it, or set HF_TOKEN."
            ) from error
        # Connections fail in the ways of its HTTP library.
        except Exception as error:
            raise InputError(
                f"{self._uri} cannot be fetched from {constants.ENDPOINT} ({first_line(error)}); set HF_ENDPOINT to a "
                "mirror, or give the path of a folder with the model's files instead."
            ) from error
        # …/snapshots/<commit>/<file>
        self._revision = path.parent.name if path.parent.parent.name == "snapshots" else self._revision
        return path

    def _is_cached(self) -> bool:
        from huggingface_hub import constants

        folder = Path(constants.HF_HUB_CACHE, f"models--{self.name.replace('/', '--')}", "snapshots", str(self.commit))
        return folder.is_dir()
