"""The recipe's section of the evaluation."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from headstart.errors import InputError
from headstart.metrics.metric import METRICS, metrics_of
from headstart.metrics.task import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TASKS
from headstart.sections import Section, with_tuples

_OF_ONE_CLASS = {
    "curve": "its points are labels a class",
    "curve_training": "its points are labels a class",
    "explanations": "a map is of one class",
}
# Settings that are for classes alone, by task, and why.
_OF_CLASSES = {MULTI_LABEL: _OF_ONE_CLASS, REGRESSION: _OF_ONE_CLASS}
WHAT_IS_JUDGED = {SINGLE_LABEL: "classes", MULTI_LABEL: "several labels", REGRESSION: "numbers"}
_DEFAULT_METRIC = "accuracy"
_CORRUPTED = 100


class Evaluation(Section):
    """The recipe's section on how the result is judged.

    metric: decides; for a regression mae where nothing else is said.
    min_gain: the gain over every baseline above which a transfer helped: of a share below 1, of an error in the
        target's unit.
    combinations: the contenders that are formed of others: `ensemble` averages the probabilities of up to three
        strategies and baselines, by weights from held-out samples, and costs a prediction by each. Empty for none: a
        single contender is delivered.
    seeds: the number of trainings of scratch and of each strategy that is trained in steps, each with another seed;
        their spread widens the gains' intervals, which otherwise cover the test items only. `auto`: 5 where one takes
        seconds, else 1: at most 10¹² operations of scratch, 10¹¹ of a strategy.
    curve: the labels a class at which the data-efficiency curve has points beside the one of all labels; empty for no
        curve. It is fitted to frozen features, in seconds.
    curve_training: adds the chosen strategy and scratch to the curve, each trained three times a point. `auto`: where
        all of these trainings take at most 10¹² operations.
    robustness: the number of test items that are corrupted in 21 ways; 0 for none. `auto`: 100 of classes and labels,
        none of numbers, which a corruption may change as a rotation does an angle.
    explanations: the number of test items that are explained; 0 for none.
    """

    metric: Annotated[str, METRICS] = _DEFAULT_METRIC
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    min_gain: Annotated[float, Field(ge=0)] = 0.0
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000
    combinations: tuple[Literal["ensemble"], ...] = ("ensemble",)
    seeds: Literal["auto"] | Annotated[int, Field(ge=1, le=20)] = "auto"
    curve: tuple[Annotated[int, Field(ge=1, le=100_000)], ...] = (1, 2, 5, 10, 25, 50, 100)
    curve_training: Literal["auto"] | bool = "auto"
    robustness: Literal["auto"] | Annotated[int, Field(ge=0, le=100_000)] = "auto"
    explanations: Annotated[int, Field(ge=0, le=100)] = 8

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: Any) -> Any:
        # Strict models take tuples only, YAML and JSON have lists only, and KFP carries whole numbers as floats.
        if not isinstance(values, Mapping):
            return values
        values = {**with_tuples(values, "combinations")}
        if isinstance(values.get("curve"), list):
            whole = (int(v) if isinstance(v, float) and v.is_integer() else v for v in values["curve"])
            return {**values, "curve": tuple(whole)}
        return values

    def check_task(self, task: str) -> None:
        """ValueError if the settings ask for what there is not of this task."""
        # Metrics are read where one is named: they import what they compute with.
        if not (self.has_default_metric and task == SINGLE_LABEL) and task not in (tasks := METRICS[self.metric].tasks):
            raise ValueError(
                f"evaluation.metric: {self.metric} is for {WHAT_IS_JUDGED[tasks[0]]}, and target.data.task is {task}; "
                f"choose one of {', '.join(metrics_of(task))}"
            )
        for name, reason in _OF_CLASSES.get(task, {}).items():
            value = getattr(self, name)
            if value and value != type(self).model_fields[name].default:
                raise ValueError(f"evaluation.{name}: has no meaning with target.data.task {task}: {reason}; remove it")
        if task != REGRESSION and self.min_gain >= 1:
            raise ValueError(
                f"evaluation.min_gain: {self.metric} is a share, and no gain is as large as {self.min_gain:g}; with "
                "numbers as labels, whose unit a gain has, say target.data.task: regression"
            )

    def for_task(self, task: str, looks: str = "") -> Self:
        """The section with the metric of this task in the place of the default one.

        Raises:
            InputError: as `check_task`; `looks` follows, the reason why labels are learned so where nobody says it.
        """
        own = {"metric": TASKS[task].default_metric} if self.has_default_metric else {}
        found = self.model_copy(update=own)
        try:
            found.check_task(task)
        except ValueError as error:
            raise InputError(f"{error}. {looks}".strip()) from None
        return found

    @property
    def has_default_metric(self) -> bool:
        """Whether the metric is that of classes, which a task of its own replaces where none is named."""
        return self.metric == _DEFAULT_METRIC

    @property
    def suits_every_task(self) -> bool:
        """Whether the settings ask for nothing that a task lacks."""
        try:
            return all(self.for_task(task) for task in TASKS)
        except InputError:
            return False

    def corrupted(self, task: str) -> int:
        """The number of test items that are corrupted."""
        if self.robustness == "auto":
            return 0 if task == REGRESSION else _CORRUPTED
        return self.robustness

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.curve_training is True and not self.curve:
            raise ValueError("curve_training needs points: list labels a class in curve, for example [5, 10]")
        return self
