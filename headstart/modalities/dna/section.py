"""The recipe's section of what is read of a sequence of DNA."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from headstart.modalities._sequences.section import SequenceInput


class DnaInput(SequenceInput):
    """`length` nucleotides are read of each sequence, from its beginning. A token is `k` of them in a row; with
    `overlap` one begins at every nucleotide, else where the one before ends."""

    length: Annotated[int, Field(ge=8, le=65_536, description="nucleotides that are read of each sequence")] = 512
    k: Annotated[int, Field(ge=1, le=6, description="nucleotides of a token: 1, or k-mers")] = 1
    overlap: Annotated[bool, Field(description="whether a k-mer begins at every nucleotide")] = True

    @model_validator(mode="after")
    def _one_has_no_overlap(self) -> Self:
        if self.k == 1 and not self.overlap:
            raise ValueError("overlap: false has no meaning where k is 1; set k, or remove overlap")
        return self
