"""Files from the web, at most as many bytes as a model may have; each version of one is downloaded once.

A server tells versions apart by ETag, or by Last-Modified with a length (RFC 9110, section 8.8). Such a file is kept in
the cache of objects (`headstart.storage.cache`); of other servers, each call downloads it.
"""

import hashlib
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from headstart.credentials import without_password
from headstart.errors import InputError
from headstart.storage.cache import kept

if TYPE_CHECKING:
    import requests  # type: ignore[import-untyped]

_TIMEOUT = 30
_CHUNK = 2**20
_MOST = 50 * 2**30


def download(uri: str, path: Path) -> None:
    """Write what is at an http:// or https:// address to `path`, which is complete or absent afterwards.

    Raises:
        InputError: it cannot be fetched whole, or is larger than 50 GiB.
    """
    draft = path.with_name(f".{path.name}.part")
    try:
        version = _version(uri)
        if version is None:
            _get(uri, draft)
        else:
            key = hashlib.sha256(f"{uri}\0{version}".encode()).hexdigest()
            with kept(key, partial(_get, uri), of=without_password(uri)) as file, draft.open("wb") as copy:
                shutil.copyfileobj(file, copy, _CHUNK)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _version(uri: str) -> str | None:
    """The words by which the server tells this content from that before and after; None if it has none."""
    import requests

    try:
        with requests.head(uri, timeout=_TIMEOUT, allow_redirects=True) as answer:
            if answer.status_code in (403, 405, 501):
                # Some servers answer GET alone.
                return None
            answer.raise_for_status()
            tag, length = answer.headers.get("ETag", ""), answer.headers.get("Content-Length")
            if tag and not tag.startswith("W/"):
                return tag
            modified = answer.headers.get("Last-Modified")
            return f"{modified} {length}" if modified and length else None
    except requests.RequestException as error:
        raise _unreachable(uri, error) from error


def _get(uri: str, path: Path) -> None:
    import requests

    try:
        with requests.get(uri, stream=True, timeout=_TIMEOUT) as answer, path.open("wb") as file:
            answer.raise_for_status()
            _write(answer, file, uri)
    except requests.RequestException as error:
        raise _unreachable(uri, error) from error


def _write(answer: "requests.Response", file: BinaryIO, uri: str) -> None:
    size = 0
    for chunk in answer.iter_content(_CHUNK):
        size += file.write(chunk)
        if size > _MOST:
            raise InputError(f"{without_password(uri)} is larger than 50 GiB; download it yourself and give its path.")


def _unreachable(uri: str, error: "requests.RequestException") -> InputError:
    status = getattr(error.response, "status_code", None)
    reason = f"the server answers {status}" if status else type(error).__name__
    return InputError(
        f"{without_password(uri)} cannot be fetched ({reason}); correct it, or download it yourself and give its path."
    )
