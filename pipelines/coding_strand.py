"""Windows of genes of two bacteria, read along the coding strand or against it, and a genome, as FASTA.

Debian's package r-cran-seqinr holds the genome of Chlamydia trachomatis with its genes, and 999 genes of Escherichia
coli as data of R, which the package rdata reads:

    apt-get download r-cran-seqinr && dpkg-deb -x r-cran-seqinr_*.deb seqinr
    pip install rdata
    python -m headstart_pipelines.coding_strand seqinr coding

writes coding/chlamydia.fasta and coding/ecoli.fasta, windows of 200 nucleotides that do not overlap, and
coding/genome.fasta, the whole genome in one record, once. Half of the windows are the coding strand as it is, `coding`,
the others its reverse complement, `reverse`; a window's own letters decide which. The header names its gene, so that
windows of one gene never part between splits. The genome is that of Stephens et al., "Genome sequence of an obligate
intracellular pathogen of humans", Science 282, 1998.
"""

import gzip
import hashlib
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from headstart.errors import InputError
from headstart.storage.local import new_directory
from headstart_pipelines.r_data import read_r

WINDOW = 200

_SEQINR = "usr/lib/R/site-library/seqinr"
_GENOME, _GENES = f"{_SEQINR}/sequences/ct.gbk.gz", f"{_SEQINR}/data/ec999.RData"
# The unpacked genome with its notes has 2.6 MB.
_LARGEST = 64 * 2**20
# Genes in one piece whose ends are known: 892 of 895.
_GENE = re.compile(r"^     CDS             (complement\()?(\d+)\.\.(\d+)\)?$", re.MULTILINE)
_COMPLEMENT = str.maketrans("ACGT", "TGCA")
_LINE = 60


def reverse_complement(letters: str) -> str:
    """The other strand, read in its own direction."""
    return letters.translate(_COMPLEMENT)[::-1]


def genes_of(genbank: str) -> tuple[str, dict[str, str]]:
    """The genome in a file of GenBank, and its genes along their coding strand, by their place: `1794-2096`."""
    notes, _, lines = genbank.partition("\nORIGIN")
    genome = re.sub("[^a-z]", "", lines).upper()
    genes = {}
    for reverse, first, last in _GENE.findall(notes):
        letters = genome[int(first) - 1 : int(last)]
        genes[f"{first}-{last}"] = reverse_complement(letters) if reverse else letters
    return genome, genes


def windows(genes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Header and letters of each window of the genes; what is left at a gene's end is left out."""
    for name, letters in genes.items():
        for start in range(0, len(letters) - WINDOW + 1, WINDOW):
            window = letters[start : start + WINDOW]
            coding = hashlib.sha256(window.encode()).digest()[0] < 128
            header = f"{name}/{start + 1}-{start + WINDOW} label={'coding' if coding else 'reverse'} group={name}"
            yield header, window if coding else reverse_complement(window)


def main(unpacked: Path, root: Path) -> None:
    """Write `root`, unless it is there.

    Raises:
        InputError: the package is another one, or rdata is not installed.
    """
    if root.exists():
        return
    genome, chlamydia = genes_of(_unpacked(unpacked / _GENOME))
    found = read_r(unpacked / _GENES, "ec999", "r-cran-seqinr")
    ecoli = {str(name): "".join(letters).upper() for name, letters in found.items()}
    if len(chlamydia) < 800 or len(ecoli) != 999:
        raise InputError(
            f"{unpacked} has {len(chlamydia)} genes of C. trachomatis and {len(ecoli)} of E. coli, not 892 and 999; "
            "unpack Debian's package r-cran-seqinr there."
        )
    with new_directory(root) as draft:
        _write(draft / "chlamydia.fasta", windows(chlamydia))
        _write(draft / "ecoli.fasta", windows(ecoli))
        _write(draft / "genome.fasta", [("Chlamydia_trachomatis", genome)])
    print(f"wrote {root}")


def _unpacked(path: Path) -> str:
    try:
        with gzip.open(path) as file:
            return file.read(_LARGEST).decode("ascii")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); give the folder that Debian's package r-cran-seqinr was unpacked to."
        ) from error


def _write(path: Path, records: Iterable[tuple[str, str]]) -> None:
    with path.open("w", encoding="ascii") as file:
        for header, letters in records:
            file.write(f">{header}\n")
            file.writelines(f"{letters[start : start + _LINE]}\n" for start in range(0, len(letters), _LINE))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m headstart_pipelines.coding_strand UNPACKED_PACKAGE OUT")
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except InputError as error:
        sys.exit(str(error))
