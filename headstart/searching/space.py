"""The space of a search: sources, strategies and, of each strategy, the settings that vary.

It follows from the marks beside the strategies' settings (headstart/searchable.py); the recipe's section `search`
narrows or replaces it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.errors import InputError
from headstart.searchable import Choices, Mark, Range
from headstart.searching.section import Search, settings_of
from headstart.strategies.section import STRATEGIES, Strategy

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Candidate:
    """A source that is searched: its reference without its pin, its architecture, the number of its stages."""

    name: str
    architecture: str
    stages: int


@dataclass(frozen=True)
class Space:
    """What is varied. `epochs` is what the rule for the size of the data gives, `augmentations` are the modality's."""

    sources: tuple[Candidate, ...]
    settings: Mapping[str, Mapping[str, Mark]]
    """of each strategy that is tried, by its registered name, the settings that vary"""
    epochs: int
    augmentations: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, section: Search, sources: Sequence[Candidate], *, epochs: int, augmentations: Sequence[str] = ()
    ) -> "Space":
        """The space that the recipe's section leaves.

        Raises:
            InputError: none of its strategies suits one of the sources.
        """
        replaced = section.marks
        settings: dict[str, dict[str, Mark]] = {}
        for name in section.tried:
            member = STRATEGIES[name]
            if not any(reason_against(default_strategy(name), source) is None for source in sources):
                continue
            marks = {key: _marked(member, key) for key in settings_of(member)} | {
                key: mark for key, mark in replaced.items() if key in settings_of(member)
            }
            found = {key: mark for key, mark in marks.items() if mark is not None}
            # A setting is drawn after the one that gives it a meaning.
            settings[name] = dict(sorted(found.items(), key=lambda each: each[1].beside is not None))
        if not settings:
            against = next(reason_against(default_strategy(name), sources[0]) for name in section.tried)
            raise InputError(f"None of search.strategies suits a source: {against}")
        return cls(tuple(sources), settings, epochs, tuple(augmentations))

    def source(self, name: str) -> Candidate:
        """The source called `name`."""
        return next(each for each in self.sources if each.name == name)

    def draw(self, trial: "optuna.trial.Trial", number: int) -> tuple[Candidate, Strategy]:
        """Let a trial choose a source and a strategy with its settings; the strategy is named after the trial."""
        source, name = self.draw_kind(trial)
        values: dict[str, Any] = {"name": f"{name}-{number}", "strategy": name, **STRATEGIES[name].short_for}
        for key, mark in self.settings[name].items():
            if mark.beside is None or values.get(mark.beside) not in (None, "none"):
                values[key] = self._value(trial, key, mark, source)
        return source, Strategy.of(values, at="search")

    def draw_kind(self, trial: "optuna.trial.Trial") -> tuple[Candidate, str]:
        """Let a trial choose a source and a strategy alone."""
        source = trial.suggest_categorical("source", [each.name for each in self.sources])
        return self.source(source), trial.suggest_categorical("strategy", list(self.settings))

    def _value(self, trial: "optuna.trial.Trial", key: str, mark: Mark, source: Candidate) -> Any:
        if isinstance(mark, Choices):
            values = (*self.augmentations, "none") if mark.of == "augmentations" else tuple(mark.values)
            return trial.suggest_categorical(key, [*([None] if mark.optional else []), *values])
        if mark.whole:
            return trial.suggest_int(key, int(mark.low), int(mark.high), log=mark.log)
        drawn = trial.suggest_float(key, mark.low, mark.high, log=mark.log)
        if mark.of is not None:
            return max(1, round(drawn * (self.epochs if mark.of == "rule" else source.stages)))
        # Three digits are as good to train by, and to read; the ends stay the ends.
        return min(max(float(f"{drawn:.3g}"), mark.low), mark.high)


def reason_against(strategy: Strategy, source: Candidate) -> str | None:
    """Why a source cannot be transferred so; None if it can."""
    try:
        strategy.check_architectures([source.architecture])
        strategy.check_stages(source.stages, source.architecture)
    except (ValueError, InputError) as error:
        return str(error)
    return None


def registered_name(strategy: Strategy) -> str:
    """The name under which a section's strategy is registered."""
    return next(name for name in STRATEGIES if STRATEGIES[name] is type(strategy))


def default_strategy(name: str) -> Strategy:
    """The strategy that is registered so, with the settings that it has by default."""
    return Strategy.of({"name": name, "strategy": name}, at="search")


def _marked(member: type[Strategy], key: str) -> Mark | None:
    marks = member.model_fields[key].metadata
    return next((mark for mark in marks if isinstance(mark, Range | Choices)), None)
