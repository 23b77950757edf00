"""What is in files: archives and tables opened, pickles recognised."""

import contextlib
import gzip
import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from safetensors import SafetensorError, deserialize


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder, by its path."""
    return ((str(path), path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file())


def opened(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """A file and, where it is packed, what is in it, to any depth."""
    yield name, content
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield from opened(f"{name}!{member}", archive.read(member))
    elif content.startswith(b"\x1f\x8b"):
        yield from opened(f"{name}!", gzip.decompress(content))
    elif content.startswith(b"PAR1"):
        yield f"{name}!", pd.read_parquet(io.BytesIO(content)).to_csv().encode()


def is_pickle(content: bytes) -> bool:
    """Whether Python would unpickle the content, whatever it is called; no file of safetensors is a pickle, although
    the length of its header and its tensors' bytes may read as a program for the unpickler."""
    with contextlib.suppress(SafetensorError):
        deserialize(content)
        return False
    try:
        operations = {operation.name for operation, _, _ in pickletools.genops(content)}
    except (ValueError, OverflowError):
        return False
    # A short text may be a program for the unpickler as well; one that names nothing to import does nothing.
    return not operations.isdisjoint({"PROTO", "GLOBAL", "INST"})
