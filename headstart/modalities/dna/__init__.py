"""DNA: sequences of nucleotides in files and cells become letters, which a network reads one by one or as k-mers."""

from typing import TYPE_CHECKING

from headstart.modalities._sequences import FASTA, Sequences
from headstart.modalities.dna.augmentation import AUGMENTATIONS
from headstart.modalities.dna.section import DnaInput

if TYPE_CHECKING:
    from headstart.modalities._sequences.alphabet import Alphabet
    from headstart.modalities.alike import Alike
    from headstart.modalities.augmentation import Augmentation
    from headstart.modalities.corruption import Corruption
    from headstart.registry import Registry


class Dna(Sequences):
    """Sequences of DNA or, with U as T, of RNA."""

    name = "dna"
    noun = "DNA sequence"
    extensions = FASTA | {".fna", ".ffn"}
    input = DnaInput
    mirrors = True
    k_of_shares = range(1, 5)

    @property
    def alphabet(self) -> "Alphabet":
        from headstart.modalities._sequences.alphabet import NUCLEOTIDES

        return NUCLEOTIDES

    @property
    def augmentation_registry(self) -> "Registry[Augmentation]":
        return AUGMENTATIONS

    @property
    def corruption_registry(self) -> "Registry[Corruption]":
        from headstart.modalities.dna.corruption import CORRUPTIONS

        return CORRUPTIONS

    @property
    def alike(self) -> "Alike":  # type: ignore[override]
        from headstart.modalities._sequences.near_duplicates import DNA_ALIKE

        return DNA_ALIKE


MODALITY = Dna()
