"""A search whose trainings are played, so that what is tried and kept shows in milliseconds."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.metrics.predictions import Predictions
from headstart.searching import loop
from headstart.searching.clock import Clock
from headstart.searching.inputs import Source
from headstart.searching.loop import TrialLoop
from headstart.searching.section import Search
from headstart.searching.space import Candidate, Space
from headstart.searching.study import Study
from headstart.searching.trial import Goal
from headstart.strategies.section import Strategy
from headstart.tracking.runs import Run, experiment_named, new_run
from headstart.training.section import Training
from tests.tracking.conftest import client, empty_database, made_twice, open_store, quick_stores  # noqa: F401

CLASSES = ("a", "b")
LABELS = np.arange(40) % 2


def predictions(right: float) -> Predictions:
    """Of 40 held-out samples, each with this probability of its label."""
    probabilities = np.where(np.arange(2) == LABELS[:, None], right, 1 - right)
    return Predictions(np.array([f"{n:02}" for n in range(40)]), LABELS, probabilities, CLASSES)


@dataclass
class Played:
    """Stands for `attempt`: a training is good if its learning rate is near 0.001. `at` is called with the number of
    the training before each."""

    at: Callable[[int, dict[str, Any]], None] = lambda number, given: None
    tried: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, strategy: Strategy, source: Path, goal: Goal, **given: Any):
        values = strategy.model_dump(exclude_none=True)
        self.tried.append({"source": given["reference"], **values})
        self.at(len(self.tried), given)
        given["progress"]("training", 1, 1)
        away = abs(np.log10(values.get("learning_rate", 3e-5)) + 3) + 0.5 * (given["reference"] == "poor")
        right = float(np.clip(0.95 - 0.2 * away, 0.05, 0.95))
        fields = {"loss": -np.log(right), "value": right, "low": right, "high": right, "seconds": 1.0}
        return {**fields, "final_seconds": 2.0}, predictions(right)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    found = Played()
    monkeypatch.setattr(loop, "attempt", found)
    return found


@dataclass(frozen=True)
class Unrecorded:
    """Stands for a run of MLflow's that nobody reads."""

    log_epoch = None


@pytest.fixture
def recorded(client, tmp_path) -> Run:  # noqa: F811
    """The run of a search in MLflow."""
    experiment = experiment_named(client, "pets", artifact_location=(tmp_path / "artifacts").as_uri())
    return new_run(client, experiment, name="pets-search", tags={"headstart.role": "search"})


@pytest.fixture
def search_of(tmp_path, request, monkeypatch) -> Callable[..., TrialLoop]:
    """A session of the search in this test's folder; `section` is the recipe's, `own` are its strategies. Trials are
    recorded where the test asks for `recorded`."""
    record: Any = Unrecorded()
    if "recorded" in request.fixturenames:
        record = request.getfixturevalue("recorded")
    else:
        monkeypatch.setattr(loop, "trial_run", lambda *given: nullcontext(record))
        monkeypatch.setattr(loop, "end_trial", lambda *given, **reason: None)

    def session(*own: str, sources: tuple[str, ...] = ("good",), limit: float = 600.0, **section: Any) -> TrialLoop:
        candidates = [Candidate(name, "convnet", 4) for name in sources]
        given = Search.of(section, at="search")
        space = Space.of(given, candidates, epochs=20, augmentations=("crop",))
        goal = Goal(None, Training(), "accuracy", seed=0)  # type: ignore[arg-type]  # nothing is trained
        given_sources = [Source(each, each.name, "sha256:1") for each in candidates]
        places = dict.fromkeys(sources, tmp_path)
        strategies = [Strategy.model_validate(each) for each in own]
        study = Study(tmp_path, 0)
        return TrialLoop(goal, space, given_sources, places, strategies, study, record, Clock(limit))

    return session
