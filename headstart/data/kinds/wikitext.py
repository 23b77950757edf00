"""WikiText, articles of Wikipedia without labels (Merity et al. 2016, https://arxiv.org/abs/1609.07843), in a folder.

Published are files of lines, `wiki.train.raw` or `wiki.train.tokens` and the same with `valid` and `test`, and on the
Hugging Face hub tables with a row a line, `train-00000-of-00002.parquet` and so on. A line ` = Name = ` begins an
article, others with more signs a section. Each paragraph is a sample, the article its group.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Set
from typing import BinaryIO, ClassVar

from headstart.data.cells import Cells
from headstart.data.kind import Kind, Source, Wanted
from headstart.data.limits import MAX_ENTRIES, MIB
from headstart.data.listing import SPLIT_NAMES, File, Files, Listing, Refusal
from headstart.data.table import columns_of, rows_of
from headstart.data.tree import Tree
from headstart.errors import InputError

_LINES = re.compile(r"wiki\.(train|valid|test)\.(?:raw|tokens)")
_TABLE = re.compile(r"(train|validation|test)-(\d{5})-of-(\d{5})\.parquet")
_HEADING, _ARTICLE = re.compile(r"= .+ ="), re.compile(r"= (?!= ).+")
_NAMES = "wiki.train.raw, wiki.valid.raw and wiki.test.raw, or train-*.parquet, validation-*.parquet and test-*.parquet"
_HOME = (
    "fetch it by: hf download Salesforce/wikitext --repo-type dataset --include '{0}/*' --local-dir FOLDER; {0} below "
    f"FOLDER then holds {_NAMES.partition(', or ')[2]}"
)


class WikiText(Kind):
    published: ClassVar = {
        name: _HOME.format(name)
        for name in ("wikitext-103-raw-v1", "wikitext-103-v1", "wikitext-2-raw-v1", "wikitext-2-v1")
    }

    def claims(self, source: Source) -> bool:
        return source.tree is not None and "train" in _found(source.tree)

    def list(self, source: Source, wanted: Wanted) -> Listing:
        """List the paragraphs of all articles, with the given splits.

        Raises:
            InputError: labels are asked for, or a file is missing, cut short or not WikiText's.
        """
        assert source.tree is not None  # noqa: S101 - it claims folders only
        name, tree = source.name, source.tree
        if wanted.labels not in ("none", "optional"):
            raise InputError(f"{name} holds WikiText, which has no labels; pretrain on it with objective: mlm.")
        if not wanted.modality.is_text:
            raise InputError(
                f"{name} holds texts, and modality: {wanted.modality.name} reads none; say modality: text."
            )
        files_of = _found(tree)
        _require_all(name, files_of)
        cells = wanted.resources.enter_context(Cells(wanted.scratch))
        refused: list[Refusal] = []
        files = Files.of(_kept(tree, files_of, wanted, cells, refused))
        return Listing(
            name=name,
            classes=(),
            splits=("train", "val", "test"),
            files=files,
            refused=tuple(refused),
            read=cells.read,
            sha256=cells.sha256,
            state=cells.sha256,
        )

    def is_unlabelled(self, source: Source, extensions: Set[str]) -> bool:
        return True


def _found(tree: Tree) -> dict[str, list[str]]:
    """The names of the files by split, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for entry in tree.entries(""):
        match = None if entry.folder or entry.refusal else _LINES.fullmatch(entry.name) or _TABLE.fullmatch(entry.name)
        if match:
            found[SPLIT_NAMES[match[1]]].append(entry.name)
    return found


def _require_all(name: str, files_of: dict[str, list[str]]) -> None:
    """InputError if a split is missing, lacks one of its tables, or is there in two forms."""
    for split in ("train", "val", "test"):
        files = files_of.get(split, [])
        tables = [match for file in files if (match := _TABLE.fullmatch(file))]
        if not files or [int(match[2]) for match in tables] != list(range(int(tables[0][3]) if tables else 0)):
            raise InputError(f"{name} lacks files of WikiText's {split} split; it has to hold {_NAMES}.")
        if len(files) > max(1, len(tables)):
            raise InputError(f"{name} has {' and '.join(files)}, which are the same texts; keep one of them.")


def _kept(
    tree: Tree, files_of: dict[str, list[str]], wanted: Wanted, cells: Cells, refused: list[Refusal]
) -> Iterator[File]:
    """Yield the paragraphs as files, whose content `cells` keeps, and append the refused ones to `refused`. They are
    called by their split and number."""
    count = articles = 0
    for split in ("train", "val", "test"):
        first = count
        for file in files_of[split]:
            for line in _lines(tree, file):
                if _HEADING.fullmatch(line):
                    articles += bool(_ARTICLE.fullmatch(line))
                    continue
                count += 1
                if count > MAX_ENTRIES:
                    raise InputError(f"{tree.name} has more than {MAX_ENTRIES:,} paragraphs; leave some out.")
                path, content = f"{split} {count - first:07}", wanted.modality.from_text(line)
                reason = "it is no text" if content is None else cells.add(path, content)
                if reason:
                    refused.append(Refusal(path, reason))
                else:
                    yield File(path, "", split, f"article {articles}")
        if count == first:
            raise InputError(f"{tree.name} has no paragraph in its {split} split; fetch it again.")


def _lines(tree: Tree, file: str) -> Iterator[str]:
    """The lines of a file that hold something, without the white space around them."""
    name = f"{tree.name}/{file}"
    with tree.open(file) as content:
        for line in _rows(name, content) if _TABLE.fullmatch(file) else _read(name, content):
            if stripped := line.strip():
                yield stripped


def _rows(name: str, content: BinaryIO) -> Iterator[str]:
    if "text" not in columns_of(name, content):
        raise InputError(
            f"{name} has no column text; of data sets in several tables WikiText alone is read: put the rows into one."
        )
    for row in rows_of(name, content, ["text"]):
        if not isinstance(row["text"], str):
            raise InputError(f"{name} has a row whose text is none, which WikiText has not; fetch it again.")
        yield row["text"]


def _read(name: str, content: BinaryIO) -> Iterator[str]:
    number = 0
    while line := content.readline(MIB):
        number += 1
        # The files end with a line's end, so that one that was cut shows.
        if not line.endswith(b"\n"):
            reason = "has more than 1 MiB" if len(line) == MIB else "has no end: the file was cut"
            raise InputError(f"Line {number} of {name} {reason}; fetch it again.")
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"Line {number} of {name} is not in UTF-8; fetch it again.") from None


KIND = WikiText()
