"""Gates: checks that a version must pass before it becomes the champion, each a number with its limit.

A gate is a file in headstart/tracking/gates/ named after its key in the policy, or the entry point of an installed
package in the group `headstart.gates`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from headstart.errors import HeadstartError
from headstart.registry import LAST, Registry
from headstart.sections import Section, Share

if TYPE_CHECKING:
    from headstart.judging.evidence import Evidence
    from headstart.judging.pairing import Pair
    from headstart.metrics.predictions import Predictions
    from headstart.tracking.version_record import VersionRecord

Relation = Literal[">", ">=", "<="]


class SharedSettings(Section):
    """Settings of the policy that several gates read and that are not gates themselves."""

    margin: Annotated[Share, Field(description="of not_worse")] = 0.01
    confidence: Annotated[float, Field(ge=0.5, lt=1, description="of the interval of the difference")] = 0.95
    unknown_training_data: Annotated[
        Literal["pass", "refuse"],
        Field(description="or refuse: where nothing says what a source was trained on, as with published weights"),
    ] = "pass"


@dataclass(frozen=True)
class GateResult:
    """The result of a gate: whether `value` stands in `relation` to `limit`.

    `passed` is None if the gate does not apply, for example because there is no champion to compare with, or if the
    value is unknown and the policy permits that. `value` is None also if it could not be determined, which otherwise
    fails the gate; `text` gives the reason.
    """

    name: str
    passed: bool | None
    value: float | None
    relation: Relation
    limit: float
    text: str


class NotAsked(Exception):  # noqa: N818 - an answer
    """The gate does not apply; the message gives the reason."""


class Unanswered(Exception):  # noqa: N818 - an answer
    """The value cannot be determined; the message gives the reason."""


@dataclass(frozen=True)
class Case:
    """The input of the gates: a challenger, and the champion that it would replace.

    `pair` holds the predictions of both for the same samples, or the reason why they cannot be compared. It is None
    without a champion, or if no gate of the policy compares the two.
    """

    policy: SharedSettings
    challenger: "VersionRecord"
    champion: "VersionRecord | None" = None
    pair: "Pair | str | None" = None
    looks: int = 1
    """how often the challenger's test split has been looked at, this time included"""

    @property
    def look(self) -> str:
        """The end of a clause about figures on the test split: which look at it this is, from the second on."""
        return f"; look {self.looks} at these test items" if self.looks > 1 else ""

    @property
    def evidence(self) -> "Evidence":
        """The challenger's evidence.

        Raises:
            Unanswered: it has none.
        """
        if self.challenger.evidence is None:
            raise Unanswered("the version has no evidence")
        return self.challenger.evidence

    @property
    def labelled_test(self) -> "Predictions":
        """The challenger's test predictions.

        Raises:
            Unanswered: its data has no labels.
        """
        if not self.evidence.predictions.classes:
            raise Unanswered("its data has no labels to measure it by")
        return self.evidence.predictions

    def matched(self, *, with_reason: bool = False) -> "tuple[Pair, str]":
        """Return the predictions of both versions, and the champion's number.

        Raises:
            NotAsked: there is no champion.
            Unanswered: the two cannot be compared.
        """
        if self.champion is None or self.pair is None:
            raise NotAsked("there is no champion yet")
        if isinstance(self.pair, str):
            reason = f": {self.pair}" if with_reason else ""
            raise Unanswered(f"not comparable with version {self.champion.version}{reason}")
        return self.pair, self.champion.version

    def unknown_training_data(self, known: str) -> Exception:
        """Return the exception to raise, with the text `known`, if the training data of one of the challenger's sources
        is unknown."""
        sources = " and ".join(self.challenger.unknown)
        kind = NotAsked if self.policy.unknown_training_data == "pass" else Unanswered
        return kind(f"{known}; what {sources} learned from is not known")


Measured = tuple[float, str]
"""A value, and a clause that describes it."""

Judge = Callable[[str, Any, Case], Iterable[GateResult]]
"""Function from a gate's name, its setting in the policy and the case to the gate's results."""


@dataclass(frozen=True)
class Gate:
    """A gate, registered under its key in the policy, which is the name of its file.

    `kind` is the key's type as a pydantic annotation, `default` its value if a policy does not set it; null, false and
    `none` turn the gate off. `note` documents the key in one line. `compares` is True if the gate needs the champion's
    predictions. `place` is the gate's position in listings.
    """

    kind: Any
    default: Any
    note: str
    judge: Judge
    compares: bool = False
    place: int = LAST


GATES = Registry("gates", "headstart.tracking.gates", "GATE", Gate)


def judge(case: Case) -> list[GateResult]:
    """Return the results of all gates that the case's policy turns on."""
    return [result for name in _active(case.policy) for result in ask(name, case)]


def ask(name: str, case: Case) -> list[GateResult]:
    """Return the results of one gate."""
    return list(GATES[name].judge(name, getattr(case.policy, name), case))


def compares(policy: SharedSettings) -> bool:
    """Return whether a gate of the policy needs the champion's predictions."""
    return any(GATES[name].compares for name in _active(policy))


def result(name: str, relation: Relation, limit: float, measure: Callable[[], Measured]) -> GateResult:
    """Return the gate's result for the value from `measure`, or for the reason that it raises."""
    try:
        value, text = measure()
    except NotAsked as reason:
        return GateResult(name, None, None, relation, limit, str(reason))
    except (Unanswered, HeadstartError) as reason:
        return GateResult(name, False, None, relation, limit, str(reason))
    passed = {">": value > limit, ">=": value >= limit, "<=": value <= limit}[relation]
    return GateResult(name, passed, value, relation, limit, text)


def at_least(measure: Callable[[Case], Measured]) -> Judge:
    """Return the judge of a gate whose setting is the smallest value that passes."""
    return lambda name, limit, case: [result(name, ">=", float(limit), lambda: measure(case))]


def at_most(measure: Callable[[Case], Measured]) -> Judge:
    """Return the judge of a gate whose setting is the largest value that passes."""
    return lambda name, limit, case: [result(name, "<=", float(limit), lambda: measure(case))]


def without(measure: Callable[[Case], Measured]) -> Judge:
    """Return the judge of a gate that is on or off and passes if the number of faults is 0."""
    return lambda name, on, case: [result(name, "<=", 0.0, lambda: measure(case))]


def _active(policy: SharedSettings) -> Iterator[str]:
    for name in GATES.in_order():
        setting = getattr(policy, name)
        # Not `in`: the limit 0 equals False.
        if not (setting is None or setting is False or setting == "none"):
            yield name
