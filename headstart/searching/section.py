"""The recipe's section of a search: what narrows or replaces the space that follows from the strategies."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from headstart.searchable import Choices, Mark, Range
from headstart.sections import Section, shortened_repr, with_tuples
from headstart.strategies.section import ANY, STRATEGIES, Strategy

# Ends of a range that are so far apart are drawn by their order of magnitude.
_DECADE = 10
# What a setting needs beside it to have a meaning, where a value of it is tried alone.
_COMPANIONS = {"strength": {"regularizer": "l2"}}


class Search(Section):
    """What `headstart search` varies; `headstart run` does not read it.

    `strategies` are the names of the strategies that are tried; by default all that suit one of the sources and
    are not made to be small.
    `settings` maps settings of strategies to the values that are tried: a list, a mapping of `low` and `high`, or one
    value. By default each strategy's marked settings vary. `keep` is the number of configurations that the final run
    compares.
    """

    strategies: tuple[Annotated[str, STRATEGIES], ...] | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    keep: Annotated[int, Field(ge=1, le=20)] = 3

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: Any) -> Any:
        return with_tuples(values, "strategies")

    @model_validator(mode="after")
    def _settings_are_those_of_strategies(self) -> Self:
        if self.strategies == ():
            raise ValueError("strategies: list at least one, or leave the key out for all")
        members = {name: STRATEGIES[name] for name in self.tried}
        known = sorted({key for member in members.values() for key in settings_of(member)})
        for key, given in self.settings.items():
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known) or 'none'}"
                raise ValueError(f"settings: {key!r} is no setting of these strategies; {hint}")
            _refuse_unusable(key, given, members)
        return self

    @property
    def tried(self) -> tuple[str, ...]:
        """The names of the strategies that are tried where they suit a source."""
        return self.strategies or tuple(name for name in STRATEGIES if STRATEGIES[name].searched)

    @property
    def marks(self) -> dict[str, Mark]:
        """What stands in the place of the strategies' own marks, by setting."""
        return {key: _mark(given) for key, given in self.settings.items()}


def settings_of(member: type[Strategy]) -> list[str]:
    """The settings of a strategy that a search can vary: not those that make it this one; none of one that is not
    trained in steps."""
    fixed = {*Strategy.model_fields, *(key for key, value in member.signature.items() if value is not ANY)}
    return [key for key in member.model_fields if key not in fixed] if member.trains else []


def _mark(given: Any) -> Mark:
    if isinstance(given, Mapping):
        low, high = given["low"], given["high"]
        whole = isinstance(low, int) and isinstance(high, int)
        return Range(low, high, log=low > 0 and high >= _DECADE * low, whole=whole)
    return Choices(tuple(given) if isinstance(given, list | tuple) else (given,))


def _refuse_unusable(key: str, given: Any, members: Mapping[str, type[Strategy]]) -> None:
    """ValueError if `given` is no way to write values of the setting `key`, or none of the strategies takes one."""
    values: Iterable[Any] = given if isinstance(given, list | tuple) else (given,)
    if isinstance(given, Mapping):
        ends = {end: given.get(end) for end in ("low", "high")}
        if set(given) != set(ends) or not all(type(end) in (int, float) for end in ends.values()):
            raise ValueError(f"settings.{key}: {shortened_repr(given)} is no range; write {{low: 1, high: 2}}")
        if not given["low"] < given["high"]:
            raise ValueError(f"settings.{key}: low is {given['low']} and high {given['high']}; low must be less")
        values = ends.values()
    values = list(values)
    if not values:
        raise ValueError(f"settings.{key}: the list is empty; give the values that are tried")
    holders = {name: member for name, member in members.items() if key in settings_of(member)}
    for value in values:
        problems = [_problem(name, member, key, value) for name, member in holders.items()]
        if all(problems):
            raise ValueError(f"settings.{key}: {problems[0]}")


def _problem(name: str, member: type[Strategy], key: str, value: Any) -> str | None:
    """What is wrong with a value of a setting; None if the strategy takes it."""
    values = {"strategy": name, **member.short_for, **_COMPANIONS.get(key, {}), key: value}
    try:
        member.model_validate(member.with_defaults(values))
    except ValidationError as error:
        problem = error.errors()[0]
        message = str(problem["msg"])
        if problem["type"] == "value_error":
            return f"{shortened_repr(value)}: {problem['ctx']['error']}"
        return f"{shortened_repr(value)} must be {message.removeprefix('Input should be ')}"
    return None
