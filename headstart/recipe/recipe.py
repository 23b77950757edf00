"""The recipe: one YAML file per experiment, refused with the path of the wrong key before any work starts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from headstart.data.section import Data
from headstart.errors import InputError
from headstart.judging.section import WHAT_IS_JUDGED, Evaluation
from headstart.metrics.metric import METRICS, metrics_of
from headstart.metrics.task import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from headstart.modalities import MODALITIES
from headstart.recipe.overrides import apply_override
from headstart.searching.section import Search
from headstart.sections import NAME, Section, read_mapping, with_tuples
from headstart.strategies.baseline import BASELINES
from headstart.strategies.section import Strategy, default_strategies
from headstart.training.objective import OBJECTIVES
from headstart.training.section import Pretraining, Training


class Source(Section):
    """The source: data to pretrain on, candidate models to choose among, or both."""

    data: Data | None = None
    candidates: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    pretraining: Pretraining = Pretraining()

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: Any) -> Any:
        return with_tuples(values, "candidates")

    @model_validator(mode="after")
    def _offers_something(self) -> Self:
        if self.data is None and not self.candidates:
            raise ValueError("give data to pretrain on or at least one entry in candidates")
        objective = self.pretraining.objective
        if self.data and self.data.labels == "none" and OBJECTIVES[objective].learns_labels:
            raise ValueError(
                f"data.labels is none, but pretraining.objective {objective} learns labels; set it to vicreg, or "
                "remove data.labels"
            )
        return self

    @property
    def architectures(self) -> tuple[str | None, ...]:
        """The architecture of each source; None where only the model itself says."""
        published = "torchvision://"
        pretrained = (self.pretraining.architecture,) if self.data and not self.pretraining.start else ()
        named = (uri.removeprefix(published).partition("/")[0] for uri in self.models if uri.startswith(published))
        unknown = (None for uri in self.models if not uri.startswith(published))
        return (*pretrained, *named, *unknown)

    @property
    def models(self) -> tuple[str, ...]:
        """References to the models that are needed: the start of a pretraining and the candidates."""
        start = self.pretraining.start if self.data else None
        return (*((start,) if start else ()), *self.candidates)


class Target(Section):
    """The target task."""

    data: Data

    @model_validator(mode="after")
    def _has_labels(self) -> Self:
        if self.data.labels == "none":
            raise ValueError("data.labels is none, but a target's labels are what is learned; remove it")
        return self


_TARGET_SECTIONS = ("training", "strategies", "baselines", "evaluation")


class Recipe(Section):
    """One experiment. A name, source data and target data are enough; everything else has a default."""

    name: Annotated[str, Field(pattern=NAME)]
    modality: Annotated[str, MODALITIES] = "image"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    source: Source
    target: Target | None = None
    training: Training = Training()
    strategies: tuple[SerializeAsAny[Strategy], ...] = Field(default_factory=default_strategies)
    baselines: tuple[Annotated[str, BASELINES], ...] = ("scratch", "classical")
    evaluation: Evaluation = Evaluation()
    search: Search | None = None

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: Any) -> Any:
        return with_tuples(values, "strategies", "baselines")

    @model_validator(mode="before")
    @classmethod
    def _tasks_have_metrics_of_their_own(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        found: Any = values
        for key in ("target", "data", "task"):
            found = found.get(key) if isinstance(found, Mapping) else None
        evaluation = values.get("evaluation", {})
        metric = {REGRESSION: "mae", MULTI_LABEL: "mean_average_precision"}.get(found)
        if metric is None or not isinstance(evaluation, Mapping) or "metric" in evaluation:
            return values
        return {**values, "evaluation": {**evaluation, "metric": metric}}

    @field_validator("strategies")
    @classmethod
    def _may_name_one_another(cls, strategies: tuple[Strategy, ...]) -> tuple[Strategy, ...]:
        listed = {each.name: each for each in strategies}
        return tuple(each.among(listed) for each in strategies)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        names = [strategy.name for strategy in self.strategies]
        counts = Counter(names)
        for name in names:
            if counts[name] > 1:
                raise ValueError(f"strategies: the name {name!r} is used twice; give each strategy a name of its own")
            if name in BASELINES:
                raise ValueError(f"strategies: {name!r} is the name of a baseline; choose another")
            if name in self.evaluation.combinations:
                raise ValueError(f"strategies: {name!r} is one of evaluation.combinations; choose another name")
        if len(set(self.baselines)) < len(self.baselines):
            raise ValueError("baselines: each may be listed once")
        if not names:
            raise ValueError("strategies: list at least one, for example full")
        if self.target is None and self.source.data is None:
            raise ValueError("target: missing; without source.data there is nothing to pretrain either")
        for strategy in self.strategies:
            strategy.check_architectures(self.source.architectures)
        self._suits_its_modality()
        self._suits_its_task()
        return self

    def _suits_its_task(self) -> None:
        if self.target is None:
            return
        task, metric = self.target.data.task, self.evaluation.metric
        if (
            task == "auto"
            and not self.evaluation.has_default_metric
            and SINGLE_LABEL not in (tasks := METRICS[metric].tasks)
        ):
            raise ValueError(
                f"evaluation.metric: {metric} is for {WHAT_IS_JUDGED[tasks[0]]}; say target.data.task: {tasks[0]}, or "
                f"choose one of {', '.join(metrics_of(SINGLE_LABEL))}"
            )
        self.evaluation.check_task(SINGLE_LABEL if task == "auto" else task)

    def _suits_its_modality(self) -> None:
        kind = MODALITIES[self.modality]
        parts = {"source": self.source.data, "target": self.target.data if self.target else None}
        trainings = {"training": self.training, "source.pretraining": self.source.pretraining}
        try:
            for role, data in parts.items():
                if data is not None:
                    data.check_input(kind, role)
            for place, training in trainings.items():
                if training.flip and not kind.mirrors:
                    raise ValueError(f"{place}.flip: {kind.noun}s have no mirror; remove it")
                if training.augmentation != "auto":
                    kind.require_augmentation(training.augmentation, at=f"{place}.augmentation")
            for strategy in self.strategies:
                augmentation = getattr(strategy, "augmentation", None)
                if augmentation not in (None, "auto"):
                    kind.require_augmentation(augmentation, at=f"strategies.{strategy.name}.augmentation")
        except InputError as error:
            raise ValueError(str(error).removesuffix(".")) from None

    @property
    def pipeline(self) -> Literal["pretrain", "finetune", "transfer"]:
        """The pipeline that does this recipe's work."""
        if self.target is None:
            return "pretrain"
        return "finetune" if self.source.data is None else "transfer"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values with every default written out: the resolved recipe."""
        return self.model_dump(mode="json")

    def to_sections(self) -> dict[str, Any]:
        """The recipe section by section, under the names that the pipelines' parameters have.

        What the recipe does not have is left out, and so is what a section leaves open, as KFP knows no null, or to its
        default, which the code knows that reads it: every step's parameters are kept many times with a run.
        """
        sections = {"name": self.name, "modality": self.modality, "seed": self.seed}
        if self.source.data:
            sections |= {"source_data": self.source.data, "source_pretraining": self.source.pretraining}
        if self.target:
            sections |= {
                "source_candidates": self.source.candidates,
                "target_data": self.target.data,
                **{key: getattr(self, key) for key in _TARGET_SECTIONS},
            }
        return {key: _as_told(section) for key, section in sections.items()}

    @classmethod
    def of_sections(cls, sections: Mapping[str, Any]) -> Self:
        """The recipe that `to_sections` took apart; what it left out may be empty here. InputError as `of`."""
        values = {key: sections[key] for key in ("name", "modality", "seed")}
        values["source"] = {"candidates": sections.get("source_candidates", [])}
        if sections.get("source_data"):
            values["source"] |= {"data": sections["source_data"], "pretraining": sections["source_pretraining"]}
        if sections.get("target_data"):
            values |= {"target": {"data": sections["target_data"]}, **{key: sections[key] for key in _TARGET_SECTIONS}}
        return cls.of(values)


def _as_told(section: Any) -> Any:
    """JSON values of a part of a recipe; of a section those that differ from the defaults."""
    if isinstance(section, Section):
        return section.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return [_as_told(each) for each in section] if isinstance(section, tuple) else section


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a file, with `key.path=value` overrides applied, whose values are YAML.

    Raises:
        InputError: the file is missing, is not YAML, or does not describe a recipe.
    """
    values = read_mapping(path, "recipe")
    for override in overrides:
        apply_override(values, override)
    return Recipe.of(values, at=f"{path}")
