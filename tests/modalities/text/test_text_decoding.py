"""Files of text are read as their mark or the recipe says, and refused with the place where they are something else."""

import codecs

import numpy as np
import pytest

from headstart.modalities import UnreadableSample
from headstart.modalities.text import MODALITY
from headstart.modalities.text.section import TextInput


def read(raw: bytes, **given: object) -> str:
    return MODALITY.decode(raw, TextInput.of(given)).values.tobytes().decode()


@pytest.mark.parametrize(
    ("raw", "given"),
    [
        ("Größe £5".encode(), {}),
        (codecs.BOM_UTF8 + "Größe £5".encode(), {}),
        (codecs.BOM_UTF8 + "Größe £5".encode(), {"encoding": "latin-1"}),
        ("Größe £5".encode("latin-1"), {"encoding": "latin-1"}),
        ("Größe £5".encode("utf-16"), {}),
        ("Größe £5".encode("utf-16-le"), {"encoding": "utf-16"}),
        (codecs.BOM_UTF32_LE + "Größe £5".encode("utf-32-le"), {}),
        ("\r\n  Größe £5 \n\n".encode(), {}),
    ],
)
def test_a_text_is_stored_as_utf_8_however_it_was_encoded(raw, given):
    assert read(raw, **given) == "Größe £5"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("price: £5".encode("latin-1"), r"not utf-8: byte 0xa3 at offset 7 .*input: \{encoding"),
        (b"a" * (2**20 + 1) + "é".encode()[:1] + b"b", "byte 0xc3 at offset 1048577"),
        (b"a" * (2**20 - 1) + "é".encode()[:1] + b"b", "byte 0xc3 at offset 1048575"),
        ("cut é".encode()[:-1], "byte 0xc3 at offset 4"),
        (b"one\0two", "NUL"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "not utf-8: byte 0x89 at offset 0"),
        ("wide".encode("utf-16-le"), "NUL"),
        (codecs.BOM_UTF16_LE + b"a", "not utf-16-le"),
        (b"", "empty"),
        (b" \n\t ", "empty"),
        (codecs.BOM_UTF8, "empty"),
        (MODALITY.from_text("lone \ud800 half"), "not utf-8: byte 0xed at offset 8"),
    ],
)
def test_what_is_no_text_is_refused_with_the_place_and_the_remedy(raw, reason):
    with pytest.raises(UnreadableSample, match=reason):
        read(raw)


def test_a_line_of_many_megabytes_is_bounded_and_its_characters_stay_whole():
    found = MODALITY.decode("é€".encode() * 5_000_000, TextInput(length=8))

    assert len(found.values) <= TextInput(length=8).most_bytes
    assert set(found.values.tobytes().decode()) == {"é", "€"}
    assert found.facts["cut"]
    assert found.facts["characters"] == 10_000_000


def test_megabytes_of_spaces_before_a_text_do_not_hide_it():
    assert read(b" " * (3 * 2**20) + b"here") == "here"


def test_facts_tell_the_script_of_most_letters():
    facts = [MODALITY.decode(text.encode(), TextInput()).facts for text in ("Привет, world of text", "12 + 3", "新闻")]

    assert [each["script"] for each in facts] == ["latin", "none", "cjk"]
    assert facts[0]["words"] == 4
    assert not any(each["cut"] for each in facts)


def test_html_in_a_text_is_shown_as_it_is_and_never_run():
    text = "<script>alert(1)</script> & <img src=x onerror=alert(2)>"
    values = MODALITY.decode(text.encode(), TextInput()).values

    for small in (False, True):
        page = MODALITY.as_html(values, '"quoted" <b>', TextInput(), small=small)
        assert "<script" not in page
        assert "<img" not in page
        assert "<b>" not in page
        assert "&lt;script&gt;alert(1)" in page


def test_bytes_of_a_request_are_texts_that_are_checked():
    reads = MODALITY.plain(TextInput(length=8))

    rows = reads.checked(np.array([[104, 105, 0], [98, 121, 101]]))

    assert [row.tobytes() for row in rows] == [b"hi", b"bye"]
    for wrong in (np.zeros((2, 3)), np.full((1, 2), 300), np.array([[0xC3, 0x28]]), np.zeros((1, 4), np.uint8)):
        with pytest.raises(Exception, match=r"UTF-8|empty"):
            reads.checked(wrong)
