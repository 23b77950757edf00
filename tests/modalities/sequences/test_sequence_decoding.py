"""Sequences are read as letters of their alphabet, and refused with the place where they are something else."""

import codecs

import numpy as np
import pytest

from headstart.errors import InputError
from headstart.modalities import UnreadableSample, modality
from headstart.modalities.dna.section import DnaInput

DNA, PROTEIN = modality("dna"), modality("protein")


def read(raw: bytes, kind=DNA, **given: object) -> str:
    return kind.decode(raw, kind.input.of(given)).values.tobytes().decode()


@pytest.mark.parametrize(
    ("raw", "letters"),
    [
        (b"acGT", "ACGT"),
        (b"ACGU", "ACGT"),
        (b">gene 1 label=x\r\nACGT\r\nACG\r\n", "ACGTACG"),
        (codecs.BOM_UTF8 + b"\n>g\nAC GT\tRYN\n", "ACGTRYN"),
    ],
)
def test_case_white_space_and_a_header_mean_nothing_and_u_is_t(raw, letters):
    assert read(raw) == letters


def test_a_protein_has_twenty_residues_others_and_an_end():
    assert read(b"mkvLAUX*\n", PROTEIN) == "MKVLAUX"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"ACGTE", r"'E' at position 5, which stands for no nucleotide; for proteins say modality: protein"),
        (b">g\nAC-\nGT", r"'-' at position 3, .* take the gaps of an alignment out"),
        (b"ACG1", r"'1' at position 4, .* the letters are ACGT"),
        ("ACÄ".encode(), "byte 0xc3 at position 3"),
        (b"AC\0GT", "NUL at position 3"),
        ("ACGT".encode("utf-16"), "byte 0xff at position 1"),
        ("ACGT".encode("utf-16-le"), "NUL at position 2"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "byte 0x89 at position 1"),
        (b"", "empty"),
        (b" \n\t ", "empty"),
        (b">only a header", "empty"),
        (b">a\nAC\n>b\nGT\n", "holds 2 records of FASTA"),
        (DNA.from_text("lone \ud800 half"), "'l' at position 1"),
    ],
)
def test_what_is_no_sequence_is_refused_with_the_place_and_the_remedy(raw, reason):
    with pytest.raises(UnreadableSample, match=reason):
        read(raw)


def test_an_end_within_a_protein_is_refused():
    with pytest.raises(UnreadableSample, match=r"'\*' at position 3"):
        read(b"MK*VL", PROTEIN)


def test_a_line_of_many_megabytes_is_checked_to_its_end_and_its_beginning_is_stored():
    found = DNA.decode(b"ACGTN" * 2_000_000, DnaInput(length=10))

    assert found.values.tobytes() == b"ACGTNACGTN"
    assert found.facts == {"letters": 10_000_000, "ambiguous": 2, "counts": [2, 2, 2, 2], "cut": True}
    with pytest.raises(UnreadableSample, match="'!' at position 10000001"):
        read(b"ACGTN" * 2_000_000 + b"!")


def test_sequences_are_shown_in_blocks_and_their_names_escaped():
    for small in (False, True):
        page = DNA.as_html(np.frombuffer(b"ACGT" * 300, np.uint8), '"quoted" <b>', DnaInput(), small=small)

        assert "ACGTACGTAC GTACGTACGT" in page
        assert page.endswith(" …</code>")
        assert "<b>" not in page


def test_letters_of_a_request_are_checked():
    reads = DNA.plain(DnaInput(length=8))

    rows = reads.checked(np.array([[65, 67, 0], [103, 85, 78]]))

    assert [row.tobytes() for row in rows] == [b"AC", b"GTN"]
    for wrong in (np.zeros((2, 3)), np.full((1, 2), 300), np.array([[65, 33]]), np.zeros((1, 4), np.uint8)):
        with pytest.raises(InputError, match=r"ASCII|stands for no|empty"):
            reads.checked(wrong)


@pytest.mark.parametrize("given", [{"k": 7}, {"overlap": False}, {"length": 4}, {"letters": 3}])
def test_settings_without_a_meaning_are_refused(given):
    with pytest.raises(InputError):
        DNA.input.of(given)
