"""Human splice sites as FASTA: of sequences of 60 nucleotides whether an intron begins or ends in their middle.

Debian's package r-cran-mlbench holds them as data of R, which the package rdata reads:

    apt-get download r-cran-mlbench && dpkg-deb -x r-cran-mlbench_*.deb mlbench
    pip install rdata
    python -m headstart_pipelines.splice_sites mlbench splice

writes splice/sites.fasta, about half of the 3186 sequences, labelled `site` or `neither`, and splice/kinds.fasta, the
others, labelled `donor`, where an exon ends and an intron begins, `acceptor`, where an intron ends, or `neither`, once.
A sequence's own letters decide where it goes, so that copies are on one side. They are the UCI repository's "Molecular
biology (splice-junction gene sequences)", Towell, Noordewier and Shavlik 1992.
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headstart.errors import InputError
from headstart.storage.local import new_directory
from headstart_pipelines.r_data import read_r

_PLACE, _PACKAGE = "usr/lib/R/site-library/mlbench/data/DNA.rda", "r-cran-mlbench"
_CLASSES = {"ei": "donor", "ie": "acceptor", "n": "neither"}
# Three columns a nucleotide, of which one is 1, or for T none.
_LETTERS = {"100": "A", "010": "C", "001": "G", "000": "T"}
_LENGTH = 60


def sequences_of(table: Any) -> Iterator[tuple[str, str]]:
    """The label and letters of each row of mlbench's data frame DNA.

    Raises:
        InputError: it is another table.
    """
    try:
        for *bits, label in table.itertuples(index=False):
            if len(bits) != 3 * _LENGTH:
                raise KeyError(len(bits))
            joined = "".join(map(str, bits))
            letters = "".join(_LETTERS[joined[start : start + 3]] for start in range(0, 3 * _LENGTH, 3))
            yield _CLASSES[str(label)], letters
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"the table DNA of mlbench has another form ({error!r}); unpack {_PACKAGE} anew.") from error


def main(unpacked: Path, root: Path) -> None:
    """Write `root`, unless it is there.

    Raises:
        InputError: the package is another one, or rdata is not installed.
    """
    if root.exists():
        return
    found = list(sequences_of(read_r(unpacked / _PLACE, "DNA", _PACKAGE)))
    with (
        new_directory(root) as draft,
        (draft / "sites.fasta").open("w", encoding="ascii") as sites,
        (draft / "kinds.fasta").open("w", encoding="ascii") as kinds,
    ):
        for number, (label, letters) in enumerate(found, start=1):
            if hashlib.sha256(letters.encode()).digest()[0] < 128:
                site = label if label == "neither" else "site"
                sites.write(f">{number} label={site}\n{letters}\n")
            else:
                kinds.write(f">{number} label={label}\n{letters}\n")
    print(f"wrote {root}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m headstart_pipelines.splice_sites UNPACKED_PACKAGE OUT")
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except InputError as error:
        sys.exit(str(error))
