"""Labels are learned as what they look like: the name of a class, several labels, or a number."""

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
    ("labels", "task", "looks"),
    [
        (SEVERAL * 8, "multi_label", "Labels such as 'circle;blue' look like several each ('circle' and 'blue')"),
        ([f"{number / 7:.3f}" for number in range(40)], "regression", "Labels such as '0.143' look like a number"),
        ([f"{number % 12 + 0.5}" for number in range(48)], "regression", "look like a number"),
        ([str(1000 + 37 * number) for number in range(40)], "regression", "Labels such as '1000' look like a number"),
    ],
)
def test_labels_are_taken_for_what_they_look_like_and_the_report_says_why(table, pack: Pack, labels, task, looks):
    path = table(labels)

    packed = pack(path)
    assert packed.task == task
    assert check(str(path)).task == task
    said = [note for note in packed.manifest["notes"] if looks in note]
    assert said == [check(str(path)).looks]
    assert f"the task is {task}. Say task: single_label" in said[0]
    assert "look like" in (packed.path / "report.html").read_text()
    asked = pack(path, task=task)
    assert (asked.digest, asked.classes, asked.manifest["splits"]) == (
        packed.digest,
        packed.classes,
        packed.manifest["splits"],
    )


@pytest.mark.parametrize("separator", ["|", ", "])
def test_several_labels_that_are_written_in_another_way_are_refused_with_what_to_write(table, pack: Pack, separator):
    path = table([each.replace(";", separator) for each in [*SEVERAL, "red", ""]] * 8)

    for attempt in (lambda: pack(path), lambda: check(str(path))):
        with pytest.raises(InputError, match=r"look like several each .* Write them with ; between them") as refusal:
            attempt()
        assert "task: single_label" in str(refusal.value)


def test_a_budget_of_classes_is_refused_where_labels_turn_out_to_be_none(table, pack: Pack):
    path = table([f"{number / 7:.3f}" for number in range(40)])

    with pytest.raises(InputError, match=r"labels_per_class has no meaning with task: regression.* say label_budget"):
        pack(path, labels_per_class=2)
    assert len(pack(path, label_budget=20).split("train").labels) < 20
    path = table([str(number % 4) for number in range(40)])
    with pytest.raises(InputError, match="label_budget is for task: regression or multi_label; of classes, say labels"):
        pack(path, label_budget=20)


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
