"""The study of a search: its trials in a SQLite file, which a killed process leaves whole.

Optuna (Akiba, Sano, Yanase, Ohta and Koyama 2019) proposes configurations by TPE (Bergstra, Bardenet, Bengio and Kégl
2011) and prunes a trial whose held-out loss is above the median of earlier ones after as many quarters of its epochs.
"""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from headstart.searching.trial import Tried
from headstart.strategies.section import Strategy

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

_FILE = "study.db"
_NAME = "search"
_TRIED = "tried"
# On a trial that begins a search: the strategy as it is, of which nothing is drawn.
_GIVEN = "given"
# On a trial that a cluster carries out: the fields of its `Sent`.
_SENT = "sent"
# Trials that are drawn at random before TPE has enough to learn from, and that are complete before one is pruned.
_RANDOM = 10
_BEFORE_PRUNING = 5


@dataclass(frozen=True)
class Sent:
    """What a trial tries, and the cluster's run that does: its name, and its id, None until the cluster has told it;
    `pruned` says why it was terminated."""

    source: str
    strategy: dict[str, Any]
    run: str
    run_id: str | None = None
    pruned: str | None = None


class Study:
    """Trials that are waiting, at work and done, by number."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Open the study in `folder`, or make it; what a process that was killed left at work waits again, unless a
        cluster goes on with it."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self.folder, self._seed = folder, seed
        self._study = optuna.create_study(
            study_name=_NAME,
            storage=f"sqlite:///{folder.absolute() / _FILE}",
            load_if_exists=True,
            direction="minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_BEFORE_PRUNING),
        )
        for trial in self._in(TrialState.RUNNING):
            if _SENT in trial.user_attrs:
                continue
            self._study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                self._wait(trial)

    @property
    def facts(self) -> dict[str, Any]:
        """What was kept by `keep_fact`."""
        return dict(self._study.user_attrs)

    def keep_fact(self, name: str, value: Any) -> None:
        """Keep a JSON value with the study."""
        self._study.set_user_attr(name, value)

    @property
    def tried(self) -> list[Tried]:
        """The trials that ended, in their order."""
        trials = self._study.get_trials(deepcopy=False)
        return [Tried(**trial.user_attrs[_TRIED]) for trial in trials if _TRIED in trial.user_attrs]

    @property
    def waiting(self) -> int:
        """How many trials wait to be asked for."""
        return len(self._in(TrialState.WAITING))

    @property
    def at_work(self) -> "list[tuple[Trial, Sent, int]]":
        """The trials that a cluster carries out, in their order: each with what was sent, and the number of quarters
        of its epochs that have been reported."""
        return [
            (
                optuna.trial.Trial(self._study, each._trial_id),
                Sent(**each.user_attrs[_SENT]),
                len(each.intermediate_values),
            )
            for each in self._in(TrialState.RUNNING)
            if _SENT in each.user_attrs
        ]

    def send(self, trial: "Trial", sent: Sent) -> None:
        """Keep that a cluster carries out a trial, for a further session too."""
        trial.set_user_attr(_SENT, asdict(sent))

    def add(self, source: str, name: str, strategy: Mapping[str, Any]) -> None:
        """Let a strategy with these settings wait, which is registered as `name`."""
        self._study.enqueue_trial({"source": source, "strategy": name}, user_attrs={_GIVEN: dict(strategy)})

    def ask(self) -> "Trial":
        """The next trial: one that waits, or else one that TPE proposes. What is proposed depends on the seed, the
        trial's number and the trials before it alone, so that an interrupted search goes on as one that was not."""
        number = len(self._study.get_trials(deepcopy=False))
        with warnings.catch_warnings():
            # Drawing settings together, each set of them that occurs together in a model of its own, is called new.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.sampler = optuna.samplers.TPESampler(
                seed=self._seed + number,
                n_startup_trials=_RANDOM,
                multivariate=True,
                group=True,
                # Of trials that are at work beside each other, none is to repeat what another one tries.
                constant_liar=True,
            )
        return self._study.ask()

    def tell(self, trial: "Trial", tried: Tried) -> None:
        """End a trial."""
        trial.set_user_attr(_TRIED, {key: value for key, value in tried.to_dict().items() if key != "name"})
        if tried.state == "complete":
            self._study.tell(trial, tried.loss)
        else:
            self._study.tell(trial, state=TrialState.PRUNED)

    def drop(self, trial: "Trial") -> None:
        """End a trial that repeats another one, as if it had not been asked for."""
        self._study.tell(trial, state=TrialState.FAIL)

    def postpone(self, trial: "Trial") -> None:
        """End a trial for which no time was left, and let it wait for a further session."""
        self._study.tell(trial, state=TrialState.FAIL)
        self._wait(trial)

    def _wait(self, trial: "Trial | FrozenTrial") -> None:
        kept = {key: value for key, value in trial.user_attrs.items() if key == _GIVEN}
        self._study.enqueue_trial(trial.params, user_attrs=kept)

    def _in(self, state: TrialState) -> "list[FrozenTrial]":
        return self._study.get_trials(deepcopy=False, states=(state,))


def given(trial: "Trial") -> Strategy | None:
    """The strategy that a trial tries as it is; None where the trial draws one."""
    values = trial.user_attrs.get(_GIVEN)
    return Strategy.of(values, at="strategies") if values else None
