"""Proteins: sequences of residues in files and cells become letters, which a network reads one by one or as k-mers."""

from typing import TYPE_CHECKING

from headstart.modalities._sequences import FASTA, Sequences
from headstart.modalities.protein.augmentation import AUGMENTATIONS
from headstart.modalities.protein.section import ProteinInput

if TYPE_CHECKING:
    from headstart.modalities._sequences.alphabet import Alphabet
    from headstart.modalities.alike import Alike
    from headstart.modalities.augmentation import Augmentation
    from headstart.modalities.corruption import Corruption
    from headstart.registry import Registry


class Protein(Sequences):
    """Sequences of amino acids."""

    name = "protein"
    noun = "protein"
    extensions = FASTA | {".faa"}
    input = ProteinInput
    k_of_shares = range(1, 3)

    @property
    def alphabet(self) -> "Alphabet":
        from headstart.modalities._sequences.alphabet import RESIDUES

        return RESIDUES

    @property
    def augmentation_registry(self) -> "Registry[Augmentation]":
        return AUGMENTATIONS

    @property
    def corruption_registry(self) -> "Registry[Corruption]":
        from headstart.modalities.protein.corruption import CORRUPTIONS

        return CORRUPTIONS

    @property
    def alike(self) -> "Alike":  # type: ignore[override]
        from headstart.modalities._sequences.near_duplicates import PROTEINS_ALIKE

        return PROTEINS_ALIKE


MODALITY = Protein()
