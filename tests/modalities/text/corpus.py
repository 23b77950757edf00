"""Small texts of several topics, made where they are needed."""

from pathlib import Path

import numpy as np

WORDS = {
    "sport": [
        "match",
        "goal",
        "team",
        "coach",
        "league",
        "season",
        "player",
        "striker",
        "referee",
        "stadium",
        "final",
        "cup",
    ],
    "money": [
        "market",
        "shares",
        "bank",
        "profit",
        "growth",
        "investor",
        "price",
        "trade",
        "deal",
        "budget",
        "analyst",
        "fund",
    ],
    "tech": [
        "software",
        "phone",
        "browser",
        "network",
        "laptop",
        "security",
        "users",
        "server",
        "code",
        "update",
        "virus",
        "screen",
    ],
}
COMMON = [
    "the",
    "a",
    "of",
    "and",
    "to",
    "in",
    "on",
    "with",
    "for",
    "that",
    "it",
    "was",
    "is",
    "by",
    "from",
    "after",
    "said",
    "new",
    "more",
    "than",
]
TOPICS = tuple(sorted(WORDS))


def text_of(topic: str, seed: int, *, words: int = 40, share: float = 0.3) -> str:
    """Sentences of which about the share `share` of the words is the topic's."""
    generator = np.random.default_rng([TOPICS.index(topic), seed])
    found = [
        str(generator.choice(WORDS[topic] if generator.random() < share else COMMON))
        for _ in range(int(generator.integers(words // 2, words)))
    ]
    return " ".join(found).capitalize() + "."


def write(folder: Path, count: int, *, seed: int = 0, share: float = 0.3) -> Path:
    """`count` texts a topic in class folders."""
    for topic in TOPICS:
        (folder / topic).mkdir(parents=True)
        for number in range(count):
            text = text_of(topic, 1000 * seed + number, share=share)
            (folder / topic / f"{number:03}.txt").write_text(text, encoding="utf-8")
    return folder
