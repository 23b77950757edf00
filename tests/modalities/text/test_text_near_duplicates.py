"""Texts that were edited a little are found, those of one topic are not."""

import pytest

from headstart.modalities.text.near_duplicates import TEXTS_ALIKE
from tests.modalities.text.conftest import stored
from tests.modalities.text.corpus import TOPICS, text_of


def pairs(texts: list[str]) -> list[tuple[int, int]]:
    samples = [stored(text) for text in texts]
    marks = TEXTS_ALIKE.marks(samples)
    assert None not in marks
    return TEXTS_ALIKE.pairs(marks, lambda number: samples[number])


LONG = text_of("sport", 1, words=160)


@pytest.mark.parametrize(
    "copy",
    [
        LONG.upper(),
        LONG.replace(" ", "\n "),
        LONG.replace(" the ", " a ", 1),
        "Update: " + LONG,
        LONG[:-25],
    ],
)
def test_a_copy_that_was_edited_a_little_is_found(copy):
    assert pairs([text_of("money", 5, words=160), LONG, text_of("sport", 9, words=160), copy]) == [(1, 3)]


def test_texts_of_one_topic_are_no_copies():
    assert pairs([text_of(topic, seed, words=120) for topic in TOPICS for seed in range(40)]) == []


def test_a_thousand_copies_are_connected_in_linear_time():
    found = pairs([f"{LONG} No. {number}" for number in range(1000)])

    assert len(found) == 999


def test_a_few_words_are_too_few_to_tell():
    assert TEXTS_ALIKE.marks([stored("Yes, please."), stored(LONG)])[0] is None


def test_the_sieve_keeps_those_that_may_be_alike():
    ours = TEXTS_ALIKE.marks([stored(text_of("money", 5, words=160)), stored(LONG.lower())])
    theirs = TEXTS_ALIKE.marks([stored(LONG)])

    assert TEXTS_ALIKE.near(ours, theirs) == [1]
