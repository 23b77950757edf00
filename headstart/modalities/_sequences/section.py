"""What the recipe's sections of DNA and of proteins have in common."""

from headstart.sections import Section


class SequenceInput(Section):
    """`length` letters are read of each sequence, from its beginning. A token is `k` letters in a row; with `overlap`
    one begins at every letter, else where the one before ends."""

    length: int
    k: int
    overlap: bool
