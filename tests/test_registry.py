"""A member is a file, or comes with an installed package; its name is known before it is imported."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest

from headstart.errors import InputError
from headstart.features.score import SCORES, Score
from headstart.metrics.metric import METRICS, Metric
from headstart.registry import Registry, added_packages
from headstart.sections import Section

METRIC = """
from headstart.metrics.counts import recalls
from headstart.metrics.metric import Metric

METRIC = Metric("worst recall", lambda counts: recalls(counts).min(axis=-1))
"""


@pytest.fixture
def package(tmp_path: Path):
    """Installs a package that adds members, and runs a program that has it on its path."""
    site = tmp_path / "site"

    def install(entry_points: str, **modules: str) -> None:
        folder = site / "outside"
        folder.mkdir(parents=True, exist_ok=True)
        for name, code in {"__init__": "", **modules}.items():
            (folder / f"{name}.py").write_text(code)
        information = site / "outside-1.2.dist-info"
        information.mkdir(exist_ok=True)
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.2\n")
        (information / "entry_points.txt").write_text(entry_points)

    def run(program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": str(site)}
        )
        return done.stdout or done.stderr

    install.run = run
    return install


class Chosen(Section):
    metric: Annotated[str, METRICS]


def test_a_package_from_outside_adds_a_member_that_a_section_takes(package):
    package("[headstart.metrics]\nworst_recall = outside.worst:METRIC\n", worst=METRIC)

    found = package.run(
        "import numpy as np\n"
        "from headstart.judging.section import Evaluation\n"
        "from headstart.metrics.classification import classification_metrics\n"
        "print(Evaluation.of({'metric': 'worst_recall'}).metric)\n"
        "print(classification_metrics(np.array([0, 1, 1]), np.eye(2)[[0, 1, 0]], ['a', 'b'])['worst_recall'])\n"
    )

    assert found == "worst_recall\n0.5\n"


def test_what_is_added_is_part_of_the_key_of_every_result(package):
    package("[headstart.metrics]\nworst_recall = outside.worst:METRIC\n", worst=METRIC)
    program = "from headstart_pipelines.local import code_digest; print(code_digest())"
    first = package.run(program)

    package("[headstart.metrics]\nworst_recall = outside.worst:METRIC\n", worst=METRIC + "# changed\n")
    second = package.run(program)

    assert len(first) == len(second) == 65
    assert first != second
    assert added_packages() == {}


@pytest.mark.parametrize(
    ("entry", "code", "said"),
    [
        (
            "worst = outside.worst:METRIC",
            "import missing_library",
            "outside adds 'worst' .* No module named 'missing_library'",
        ),
        ("worst = outside.worst:METRIC", "METRIC = 3", "'worst' of headstart.metrics is int and no Metric"),
        (
            "accuracy = outside.worst:METRIC",
            METRIC,
            "outside adds 'accuracy' to headstart.metrics, which headstart has",
        ),
    ],
)
def test_a_package_that_is_wrong_is_named(package, entry, code, said):
    package(f"[headstart.metrics]\n{entry}\n", worst=code)

    found = package.run(
        "from headstart.errors import InputError\n"
        "from headstart.metrics.metric import METRICS\n"
        "try: METRICS['worst']\n"
        "except InputError as error: print(error)\n"
    )

    assert re.search(said, found), found


def test_names_are_known_before_anything_is_imported():
    program = "import sys; from headstart.metrics.metric import METRICS; print(*METRICS, 'numpy' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == (
        "accuracy balanced_accuracy macro_f1 macro_precision macro_recall mae mean_average_precision micro_f1 r2 rmse "
        "False\n"
    )


def test_a_name_that_is_wrong_is_answered_with_those_that_there_are():
    with pytest.raises(InputError, match=r"metric: 'acuracy' is not one of 'accuracy', .* or 'rmse'"):
        Chosen.of({"metric": "acuracy"})
    with pytest.raises(InputError, match="There is no 'acuracy' among headstart's metrics; choose one of accuracy"):
        METRICS["acuracy"]


def test_a_name_where_there_is_one_member_is_answered_with_that(tmp_path, monkeypatch):
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "sight.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ValueError, match=r"^'smell' is not 'sight'$"):
        Registry("senses", "alone", "SENSE", object).require("smell")


def test_members_are_shown_by_their_places_and_those_from_outside_last(add_member):
    add_member(SCORES, "aaa", Score("first by name", lambda probed: 0.0))

    assert SCORES.in_order() == ["logme", "h_score", "leep", "nleep", "aaa"]


def test_an_editor_is_told_the_names():
    assert Chosen.model_json_schema()["properties"]["metric"]["enum"] == list(METRICS)


def test_a_test_adds_a_member_for_a_while(add_member):
    add_member(METRICS, "none", Metric("none", lambda counts: counts.hits))

    assert "none" in METRICS
    assert METRICS["none"].title == "none"
