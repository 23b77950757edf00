"""Labels that ask for several classes of a sample, or for a number, are refused and never become classes silently."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headstart.data.dataset import Dataset
from headstart.data.reference import check
from headstart.errors import InputError

Pack = Callable[..., Dataset]


@pytest.fixture
def table(tmp_path: Path, picture: Callable[[Path, int], Path]) -> Callable[[list[str]], Path]:
    """A table of pictures with these labels."""

    def write(labels: list[str]) -> Path:
        rows = ["path,label"]
        for number, label in enumerate(labels):
            picture(tmp_path / "p" / f"{number:03}.png", number)
            rows.append(f'p/{number:03}.png,"{label}"')
        path = tmp_path / "table.csv"
        path.write_text("\n".join(rows) + "\n")
        return path

    return write


SEVERAL = ["circle;red", "circle;blue", "square;red", "square;blue"]


@pytest.mark.parametrize(
    ("labels", "looks"),
    [
        (SEVERAL * 8, "labels such as 'circle;blue' look like several each ('circle' and 'blue')"),
        ([each.replace(";", "|") for each in SEVERAL] * 8, "look like several each"),
        ([each.replace(";", ", ") for each in [*SEVERAL, "red", ""]] * 8, "look like several each"),
        ([f"{number / 7:.3f}" for number in range(40)], "labels such as '0.143' look like a number"),
        ([f"{number % 12 + 0.5}" for number in range(48)], "look like a number"),
        ([str(1000 + 37 * number) for number in range(40)], "labels such as '1000' look like a number"),
    ],
)
def test_several_labels_and_numbers_are_refused_with_what_to_do(table, pack: Pack, labels, looks):
    path = table(labels)

    for attempt in (lambda: pack(path), lambda: check(str(path))):
        with pytest.raises(InputError) as refusal:
            attempt()
        assert looks in str(refusal.value)
        assert "task: single_label" in str(refusal.value)


@pytest.mark.parametrize(
    "labels",
    [
        ["tench, Tinca tinca", "goldfish, Carassius auratus", "crane, bird", "crane, machine"] * 8,
        ["rock;roll", "jazz"] * 16,
        [str(number % 10) for number in range(40)],
        ["0.5", "1.0", "1.5"] * 12,
        ["nan", "inf", "1"] * 12,
    ],
)
def test_names_of_classes_stay_what_they_are(table, pack: Pack, labels):
    path = table(labels)

    assert set(pack(path).classes) == set(labels)
    assert set(check(str(path)).samples) == set(labels)


def test_who_says_that_each_label_is_a_class_gets_classes(table, pack: Pack):
    path = table(SEVERAL * 8)

    assert set(pack(path, task="single_label").classes) == set(SEVERAL)
    assert set(check(str(path), task="single_label").samples) == set(SEVERAL)
