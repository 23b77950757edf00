"""Tables of samples: CSV or Parquet with the columns `path` and `label`, and optionally `split` and `group`.

Paths are relative to the table's folder, or `s3://bucket/key`. Rows of one `group` (a patient, a scene, a recording)
share a split. Files are read whatever their extension; the content decides. In the place of `path` a column called as
the modality is (`text`, `image`) may hold the samples themselves: text where samples are text, in Parquet the content
of files.
"""

import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from headstart.data.cells import Cells
from headstart.data.kind import Kind, Source, Wanted
from headstart.data.limits import MAX_ENTRIES
from headstart.data.listing import File, Files, Labels, Listing, Refusal, check_classes, natural, split_named, splits_of
from headstart.data.remote import read_object, state_of_object
from headstart.data.several import NONE
from headstart.data.table import SUFFIXES, columns_of, rows_of
from headstart.data.task import SEPARATOR
from headstart.data.tree import LocalTree
from headstart.errors import InputError
from headstart.modalities import Modality, UnreadableSample
from headstart.storage import s3

_COLUMNS = ("path", "label", "split", "group")


@dataclass(frozen=True)
class Named:
    """The files of `tree`, or S3 objects, that a manifest's rows name, by path."""

    tree: LocalTree | None
    objects: dict[str, s3.Object]

    def read(self, path: str) -> bytes:
        if path in self.objects:
            return read_object(self.objects[path])
        if self.tree is None:
            raise UnreadableSample("there is no such object")
        return self.tree.read(path)

    def sha256(self, path: str) -> str | None:
        return None if path in self.objects or self.tree is None else self.tree.sha256(path)

    def state(self, path: str) -> str | None:
        if path in self.objects:
            return state_of_object(self.objects[path])
        return None if self.tree is None else self.tree.state(path)


class Manifest(Kind):
    suffixes = SUFFIXES
    names_files = True

    def list(self, source: Source, wanted: Wanted) -> Listing:
        table = wanted.resources.enter_context(_open(source))
        columns, kind = columns_of(source.name, table), wanted.modality
        labelled = _is_labelled(source.name, columns, wanted.labels)
        if "path" in columns:
            return _list_files(source.name, table, _base(source), wanted.labels, labelled)
        if kind.name in columns:
            cells = wanted.resources.enter_context(Cells(wanted.scratch))
            return _list_cells(source.name, table, kind, cells, wanted.labels, labelled)
        raise InputError(
            f"{source.name} has no column path and none called {kind.name}; name the column with the samples' paths "
            f"path, or the one with the {kind.noun}s themselves {kind.name}."
        )

    def is_unlabelled(self, source: Source, extensions: Set[str]) -> bool:
        with _open(source) as table:
            return "label" not in columns_of(source.name, table)

    def named_states(self, source: Source) -> Iterator[str]:
        """Yield the path and state of each named file: size and modification time, or an object's size and ETag."""
        with _open(source) as table:
            if "path" not in columns_of(source.name, table):
                return
            files, _ = _files(source.name, rows_of(source.name, table, _COLUMNS), _base(source), labelled=False)
        named = _find(files, _base(source))
        for file in sorted(files, key=lambda file: file.path):
            found = named.objects.get(file.path)
            if found is not None:
                yield f"{file.path}\0{found.size}\0{found.etag}"
            elif named.tree is not None and (named.tree.root / file.path).is_file():
                state = (named.tree.root / file.path).stat()
                yield f"{file.path}\0{state.st_size}\0{state.st_mtime_ns}"
            else:
                yield f"{file.path}\0"

    def place(self, source: Source) -> Path | None:
        return source.path and source.path.parent


def _open(source: Source) -> BinaryIO:
    assert source.path is not None  # noqa: S101 - it claims files only
    return source.path.open("rb")


def _base(source: Source) -> str:
    """Return the folder or S3 prefix that paths in the table are relative to."""
    return source.name.rpartition("/")[0]


def _is_labelled(name: str, columns: Sequence[str], labels: Labels) -> bool:
    labelled = labels != "none" and "label" in columns
    if labels in ("required", "numbers", "several") and not labelled:
        told = {"numbers": "numbers", "several": "labels"}.get(labels, "classes")
        raise InputError(f"{name} has no column label; name the column with the samples' {told} so.")
    return labelled


def _list_cells(name: str, table: BinaryIO, kind: Modality, cells: Cells, labels: Labels, labelled: bool) -> Listing:
    """List the samples that stand in a table's own rows, which `cells` keeps. They are called by the rows' numbers.

    Raises:
        InputError: as `_list_files`.
    """
    refused: list[Refusal] = []

    def kept() -> Iterator[File]:
        for number, row in enumerate(rows_of(name, table, (kind.name, *_COLUMNS)), start=1):
            _check_count(name, number)
            # All are as long, so that their order is that of the rows.
            path, content = f"row {number:07}", row.get(kind.name)
            if isinstance(content, str):
                content = kind.from_text(content)
            label = _label(name, number, row.get("label")) if labelled else ""
            file = File(path, label, _split(name, number, row), _text(row.get("group")) or None)
            if not isinstance(content, bytes):
                refused.append(Refusal(path, f"its column {kind.name} holds no {kind.noun}"))
            elif labelled and not label:
                refused.append(Refusal(path, "it has no label"))
            elif reason := cells.add(path, content):
                refused.append(Refusal(path, reason))
            else:
                yield file

    files = Files.of(kept())
    if not files:
        reason = f" ({refused[0].path}: {refused[0].reason})" if refused else ""
        raise InputError(f"{name} holds no sample that can be read{reason}; correct it.")
    listing = Listing(
        name=name,
        classes=natural(set(files.labels.values)) if labelled else (),
        splits=_splits(name, files),
        files=files,
        refused=tuple(refused),
        read=cells.read,
        sha256=cells.sha256,
        # What a row holds decides, whatever became of the rows around it.
        state=cells.sha256,
    )
    if labelled:
        check_classes(listing, labels)
    return listing


def _list_files(name: str, table: BinaryIO, base: str, labels: Labels, labelled: bool) -> Listing:
    """List the samples that a table's rows name; `base` is the table's folder or S3 prefix.

    Raises:
        InputError: the table cannot be read, has unknown splits, or `check_classes` raises.
    """
    files, refused = _files(name, rows_of(name, table, _COLUMNS), base, labelled)
    splits = _splits(name, files)
    named = _find(files, base)
    kept, absent = [], []
    for file in files:
        reason = _reason_to_refuse(file.path, named)
        if reason is None:
            kept.append(file)
        else:
            absent.append(Refusal(file.path, reason))
    if not kept:
        first = next(iter([*absent, *refused]), None)
        reason = f" ({first.path}: {first.reason})" if first else ""
        raise InputError(f"{name} names no sample that can be read{reason}; correct it.")
    present = {file.label for file in files} if labelled else set()
    listing = Listing(
        name=name,
        classes=natural(present),
        splits=splits,
        files=tuple(sorted(kept, key=lambda file: file.path)),
        refused=tuple(sorted([*refused, *absent], key=lambda refusal: refusal.path)),
        read=named.read,
        sha256=named.sha256,
        state=named.state,
        readers=s3.CONNECTIONS if named.objects else None,
    )
    if labelled:
        check_classes(listing, labels)
    return listing


def _files(name: str, rows: Iterable[dict[str, Any]], base: str, labelled: bool) -> tuple[list[File], list[Refusal]]:
    """Return the rows as files, and the refused ones. Rows with the same path must be equal."""
    files: dict[str, File] = {}
    refused: list[Refusal] = []
    twice: Counter[str] = Counter()
    for number, row in enumerate(rows, start=1):
        _check_count(name, number)
        given = _text(row.get("path"))
        path, reason = _path(given, base)
        label = _label(name, number, row.get("label")) if labelled else ""
        if labelled and not label:
            reason = reason or "it has no label"
        file = File(path, label, _split(name, number, row), _text(row.get("group")) or None)
        if reason is not None:
            refused.append(Refusal(given or f"row {number}", reason))
        elif path in files or twice[path]:
            twice[path] += 1
            if files.get(path) != file:
                files.pop(path, None)
                refused.append(Refusal(path, f"row {number} contradicts another row about it"))
        else:
            files[path] = file
    return list(files.values()), refused


def _check_count(name: str, number: int) -> None:
    if number > MAX_ENTRIES:
        raise InputError(f"{name} has more than {MAX_ENTRIES:,} rows; split it.")


def _path(given: str, base: str) -> tuple[str, str | None]:
    """Return the path relative to `base`, or a URI, and the reason for refusing the row, or None."""
    if not given:
        return given, "the row has no path"
    if any(ord(character) < 32 for character in given):
        return given, "its path has control characters"
    root = base.rstrip("/") + "/"
    if s3.is_s3(given):
        return given.removeprefix(root), None
    if "://" in given:
        return given, "it is neither a path nor an s3:// URI"
    if given.startswith(root):
        given = given.removeprefix(root)
    if given.startswith("/"):
        return given, "its path is absolute and leads out of the manifest's folder; put the file below that"
    path = posixpath.normpath(given)
    if path == ".." or path.startswith("../"):
        return given, "its path leads out of the manifest's folder; put the file below that"
    return path, None


def _split(name: str, number: int, row: dict[str, Any]) -> str | None:
    given = _text(row.get("split"))
    return split_named(given, f"{name}, row {number}") if given else None


def _splits(name: str, files: Iterable[File]) -> tuple[str, ...]:
    return splits_of(name, files, noun="row", remedy="remove the column split")


def _find(files: Iterable[File], base: str) -> Named:
    """Return the files and objects that rows name. Objects are found by listing their folders, each once."""
    remote = s3.is_s3(base)
    uris = {
        f.path if s3.is_s3(f.path) else f"{base.rstrip('/')}/{f.path}": f.path
        for f in files
        if remote or s3.is_s3(f.path)
    }
    by_folder: dict[str, set[str]] = defaultdict(set)
    for uri in uris:
        by_folder[uri.rpartition("/")[0] + "/"].add(uri)
    objects: dict[str, s3.Object] = {}
    done: str | None = None
    for folder in sorted(by_folder):
        # The listing of a parent folder includes this one.
        if done is not None and folder.startswith(done):
            continue
        done = folder
        try:
            objects |= {uris[found.uri]: found for found in s3.list_contents(folder) if found.uri in uris}
        except s3.UnreadableObject:
            continue
    return Named(None if remote else LocalTree(Path(base)), objects)


def _reason_to_refuse(path: str, named: Named) -> str | None:
    if path in named.objects:
        return None
    if named.tree is None or s3.is_s3(path):
        return "there is no such object"
    return named.tree.refusal(path)


def _label(name: str, number: int, value: Any) -> str:
    """Return a cell of labels as text: one label, or a list of several."""
    if not isinstance(value, list):
        return _text(value)
    if joined := [part for part in map(_text, value) if SEPARATOR in part]:
        raise InputError(f"{name}, row {number}: the label '{joined[0]}' has a {SEPARATOR}, which parts labels.")
    return SEPARATOR.join(map(_text, value)) or NONE


def _text(value: Any) -> str:
    """Return a cell as text: "" if missing, whole floats without a fraction."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


KIND = Manifest()
