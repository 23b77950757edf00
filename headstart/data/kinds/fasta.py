"""Files of FASTA: each record is a sample, and its header may give label, group and split (headstart/data/fasta.py).

Without labels, a record of more letters than are read of a sample, such as a genome, is cut in windows of that length.
"""

from collections.abc import Iterator, Set
from typing import BinaryIO

from headstart.data.cells import Cells
from headstart.data.fasta import SUFFIXES, Record, has_labels, records_of
from headstart.data.kind import Kind, Source, Wanted
from headstart.data.limits import MAX_ENTRIES
from headstart.data.listing import File, Files, Listing, Refusal, check_classes, natural, split_named, splits_of
from headstart.data.tree import TOO_LARGE
from headstart.errors import InputError

_WHITE = b" \t\r\n\v\f"


class Fasta(Kind):
    suffixes = SUFFIXES

    def list(self, source: Source, wanted: Wanted) -> Listing:
        kind, name = wanted.modality, source.name
        if kind.letters_read(wanted.given) is None:
            raise InputError(
                f"{name} holds sequences, and modality: {kind.name} reads none; say modality: dna or protein."
            )
        with _open(source) as file:
            labelled = wanted.labels != "none" and has_labels(name, file)
            if wanted.labels in ("required", "several") and not labelled:
                raise InputError(f"{name} has no record with a label; write > and a name, and label=CLASS after it.")
            cells = wanted.resources.enter_context(Cells(wanted.scratch))
            refused: list[Refusal] = []
            window = None if labelled else kind.letters_read(wanted.given)
            files = Files.of(_kept(name, file, cells, labelled, window, refused))
        if not files:
            reason = f" ({refused[0].path}: {refused[0].reason})" if refused else ""
            raise InputError(f"{name} holds no sequence that can be read{reason}; correct it.")
        listing = Listing(
            name=name,
            classes=natural(set(files.labels.values)) if labelled else (),
            splits=splits_of(name, files, noun="record", remedy="take the splits out of the headers"),
            files=files,
            refused=tuple(refused),
            read=cells.read,
            sha256=cells.sha256,
            # What a record holds decides, whatever became of those around it.
            state=cells.sha256,
        )
        if labelled:
            check_classes(listing, wanted.labels)
        return listing

    def is_unlabelled(self, source: Source, extensions: Set[str]) -> bool:
        with _open(source) as file:
            return not has_labels(source.name, file)


def _open(source: Source) -> BinaryIO:
    assert source.path is not None  # noqa: S101 - it claims files only
    return source.path.open("rb")


def _kept(
    name: str, file: BinaryIO, cells: Cells, labelled: bool, window: int | None, refused: list[Refusal]
) -> Iterator[File]:
    """Yield the records as files, whose content `cells` keeps, and append the refused ones to `refused`; those of more
    letters than `window` are cut. They are called by their numbers and names."""
    count = 0
    for number, record in enumerate(records_of(name, file), start=1):
        # All numbers are as long, so that their order is that of the records.
        path, label = f"record {number:07} {record.name}".strip(), record.words.get("label", "")
        split = split_named(record.words.get("split", ""), f"{name}, {path}")
        for part, content in _parts(record, window) if record.content is not None else [("", None)]:
            if count >= MAX_ENTRIES:
                raise InputError(f"{name} has more than {MAX_ENTRIES:,} sequences; split it.")
            if content is None:
                refused.append(Refusal(path, TOO_LARGE))
            elif labelled and not label:
                refused.append(Refusal(path, "it has no label"))
            elif reason := cells.add(path + part, content):
                refused.append(Refusal(path + part, reason))
            else:
                count += 1
                yield File(path + part, label if labelled else "", split, record.words.get("group"))


def _parts(record: Record, window: int | None) -> Iterator[tuple[str, bytes]]:
    """The record's content, or that of each of its windows, with the places of its letters; what is left at the end is
    one where it has half as many letters."""
    assert record.content is not None  # noqa: S101 (asked before)
    letters = record.content.translate(None, _WHITE) if window else record.content
    if window is None or len(letters) <= window:
        yield "", record.content
        return
    for start in range(0, len(letters) - window // 2 + 1, window):
        part = letters[start : start + window]
        yield f" {start + 1:010}-{start + len(part):010}", part


KIND = Fasta()
