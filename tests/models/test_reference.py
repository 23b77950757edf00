"""References to models, by number and by content."""

from headstart.models.reference import by_content, numbered, pin_of, pinned, unpinned

DIGEST = "sha256:8c8c06725371" + "0" * 52
VERSION = pinned("models:/digits-source/3", DIGEST)


def test_a_reference_by_content_is_the_same_in_every_registry_and_pinned():
    reference = by_content("digits-source", DIGEST)

    assert unpinned(reference) == "models:/digits-source/sha256:8c8c06725371"
    assert pin_of(reference) == DIGEST


def test_text_names_a_version_by_its_number_once_that_is_known():
    unnumbered = by_content("digits-source", DIGEST)
    text = f"{unpinned(unnumbered)} is the only candidate: {unnumbered}."

    assert numbered(text, VERSION) == f"models:/digits-source/3 is the only candidate: {VERSION}."


def test_text_about_other_content_or_without_a_version_stays_as_it_is():
    other = by_content("digits-source", "sha256:" + "1" * 64)

    assert numbered(other, VERSION) == other
    assert numbered(by_content("digits-source", DIGEST), "") == by_content("digits-source", DIGEST)
