"""Files from the web: one GET request, at most as many bytes as a model may have."""

from pathlib import Path

from headstart.credentials import without_password
from headstart.errors import InputError

_TIMEOUT = 30
_CHUNK = 2**20
_MOST = 50 * 2**30


def download(uri: str, path: Path) -> None:
    """Write what is at an http:// or https:// address to `path`, which is complete or absent afterwards.

    Raises:
        InputError: it cannot be fetched, or is larger than 50 GiB.
    """
    import requests  # type: ignore[import-untyped]

    shown, draft = without_password(uri), path.with_name(f".{path.name}.part")
    try:
        with requests.get(uri, stream=True, timeout=_TIMEOUT) as answer, draft.open("wb") as file:
            answer.raise_for_status()
            size = 0
            for chunk in answer.iter_content(_CHUNK):
                size += file.write(chunk)
                if size > _MOST:
                    raise InputError(f"{shown} is larger than 50 GiB; download it yourself and give its path.")
        draft.replace(path)
    except requests.RequestException as error:
        status = getattr(error.response, "status_code", None)
        reason = f"the server answers {status}" if status else type(error).__name__
        raise InputError(
            f"{shown} cannot be fetched ({reason}); correct it, or download it yourself and give its path."
        ) from error
    finally:
        draft.unlink(missing_ok=True)
