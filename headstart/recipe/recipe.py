"""The recipe: one YAML file per experiment, refused with the path of the wrong key before any work starts."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from headstart import yaml_text
from headstart.data.section import Data
from headstart.errors import InputError
from headstart.judging.section import Baseline, Evaluation
from headstart.modalities import MODALITIES
from headstart.sections import NAME, Section, read_mapping, shortened_repr, with_tuples
from headstart.strategies.section import PRESETS, Strategy, is_convolutional
from headstart.training.section import Pretraining, Training


class Source(Section):
    """Where the head start comes from: data to pretrain on, and/or candidate models to choose among."""

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
        if self.data and self.data.labels == "none" and self.pretraining.objective == "supervised":
            raise ValueError(
                "data.labels is none, but pretraining.objective supervised learns labels; set it to vicreg, or remove "
                "data.labels"
            )
        return self

    @property
    def architectures(self) -> tuple[str | None, ...]:
        """The architecture of each source; None where only the model itself says."""
        published = "torchvision://"
        pretrained = (self.pretraining.architecture,) if self.data else ()
        named = (uri.removeprefix(published).partition("/")[0] for uri in self.candidates if uri.startswith(published))
        unknown = (None for uri in self.candidates if not uri.startswith(published))
        return (*pretrained, *named, *unknown)


class Target(Section):
    """The task that is wanted."""

    data: Data

    @model_validator(mode="after")
    def _has_labels(self) -> Self:
        if self.data.labels == "none":
            raise ValueError("data.labels is none, but a target's labels are what is learned; remove it")
        return self


_DEFAULT_STRATEGIES = tuple(
    Strategy.model_validate(values)
    for values in (
        "zero",
        "partial",
        "full",
        {"name": "full-l2sp", "transfer": "full", "schedule": "lp_ft", "regularizer": "l2_sp"},
    )
)


_TARGET_SECTIONS = ("training", "strategies", "baselines", "evaluation")


class Recipe(Section):
    """One experiment. A name, source data and target data are enough; everything else has a default."""

    name: Annotated[str, Field(pattern=NAME)]
    modality: Annotated[str, MODALITIES] = "image"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    source: Source
    target: Target | None = None
    training: Training = Training()
    strategies: tuple[Strategy, ...] = _DEFAULT_STRATEGIES
    baselines: tuple[Baseline, ...] = ("scratch", "classical")
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: Any) -> Any:
        return with_tuples(values, "strategies", "baselines")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        names = [strategy.name for strategy in self.strategies]
        counts = Counter(names)
        for name in names:
            if counts[name] > 1:
                raise ValueError(f"strategies: the name {name!r} is used twice; give each strategy a name of its own")
            if name in get_args(Baseline):
                raise ValueError(f"strategies: {name!r} is the name of a baseline; choose another")
        if len(set(self.baselines)) < len(self.baselines):
            raise ValueError("baselines: each may be listed once")
        if not names:
            raise ValueError("strategies: list at least one, for example full")
        if self.target is None and self.source.data is None:
            raise ValueError("target: missing; without source.data there is nothing to pretrain either")
        adapting = next((strategy.name for strategy in self.strategies if strategy.lora is not None), None)
        architectures = self.source.architectures
        if adapting and all(name and is_convolutional(name) for name in architectures):
            known = ", ".join(dict.fromkeys(map(str, architectures)))
            raise ValueError(
                f"strategies.{adapting}: lora adds to the linear layers of a vision transformer, and the sources here "
                f"are convolutional ({known}); use surgical, or a source such as torchvision://vit_b_16/IMAGENET1K_V1"
            )
        return self

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
    """Reads a recipe file and applies `key.path=value` overrides, whose values are YAML.

    Raises:
        InputError: the file is missing, is not YAML, or does not describe a recipe.
    """
    values = read_mapping(path, "recipe")
    for override in overrides:
        _apply(values, override)
    return Recipe.of(values, at=f"{path}")


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    given = shortened_repr(override)
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
        raise InputError(f"--set {given}: write key=value, for example --set target.data.labels_per_class=10.")
    try:
        value = yaml_text.parse(text)
    except yaml_text.UnreadableText as error:
        raise InputError(f"--set {given}: the value is not valid YAML ({error}).") from None
    *parents, last = key.split(".")
    place: Any = values
    for index, part in enumerate((*parents, last)):
        is_last = index == len(parents)
        if isinstance(place, list):
            # A list's entries are addressed by position, or by name where they have one.
            found = [i for i, item in enumerate(place) if str(i) == part or _name_of(item) == part]
            if not found:
                raise InputError(f"--set {given}: there is no entry {part!r} in that list.")
            if isinstance(place[found[0]], str) and not is_last:
                short = place[found[0]]
                place[found[0]] = {"name": short, **PRESETS.get(short, {"transfer": short})}
            slot: Any = found[0]
        elif isinstance(place, dict):
            slot = part
            if not is_last and place.get(part) is None:
                place[part] = {}
        else:
            raise InputError(f"--set {given}: {'.'.join(key.split('.')[:index])} is not a mapping.")
        if is_last:
            place[slot] = value
        else:
            place = place[slot]


def _name_of(item: Any) -> str | None:
    return item.get("name", item.get("transfer")) if isinstance(item, dict) else item if isinstance(item, str) else None
