"""SHA256SUMS files: digests of the files in a folder, in the format of `sha256sum`."""

from collections.abc import Sequence
from pathlib import Path

from headstart.errors import InputError
from headstart.storage.digests import sha256_of
from headstart.storage.local import write_text

SUMS = "SHA256SUMS"
_LIMIT = 4096


def write_sums(folder: Path, names: Sequence[str]) -> None:
    """Write the sums of these files, in this order."""
    write_text(folder / SUMS, "".join(f"{sha256_of(folder / name)}  {name}\n" for name in names))


def read_sums(folder: Path) -> str:
    """Return the content of SHA256SUMS.

    Raises:
        OSError, UnicodeDecodeError: it cannot be read.
    """
    with (folder / SUMS).open(encoding="utf-8") as file:
        return file.read(_LIMIT)


def verify_sums(folder: Path, names: Sequence[str]) -> None:
    """Compare these files with SHA256SUMS. Names in it are compared with `names`, never opened.

    Raises:
        InputError: it lists other files, or a file is missing or changed.
        OSError, UnicodeDecodeError: as `read_sums`.
    """
    sums: dict[str, str] = {}
    for line in read_sums(folder).splitlines():
        digest, _, name = line.partition("  ")
        sums[name] = digest
    if set(sums) != set(names):
        raise InputError(f"{folder / SUMS} must list {' and '.join(names)} and nothing else; it is damaged")
    for name, expected in sums.items():
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} is missing; copy the whole of {folder} again")
        if sha256_of(folder / name) != expected:
            raise InputError(f"{folder / name} is not the file that {SUMS} lists: it is damaged or was changed")
