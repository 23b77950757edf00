"""The recipe: one YAML file per experiment, refused with the path of the wrong key before any work starts.

Each section is a plain typed object. The pipelines take the same sections as parameters, so a component turns its
parameter back into the section with `Section.of(...)` and gets the same checks.
"""

import difflib
import re
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from headstart import yaml_text
from headstart.errors import InputError, shortened

Metric = Literal["accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1"]
Baseline = Literal["scratch", "classical"]
Transfer = Literal["zero", "partial", "full"]
Share = Annotated[float, Field(ge=0, le=1)]

# Experiment, strategy and registry names end up in URIs, file names and MLflow: one safe alphabet for all.
_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"


# Values in messages: whoever gave a long one knows the rest of it.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200
_LONGEST_NAME = 80
_MOST_PROBLEMS = 20


class Section(BaseModel):
    """A part of the recipe. Unknown keys are refused and values are not coerced from other types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers(cls, values: Any) -> Any:
        # A KFP parameter travels as a protobuf Struct, which knows no integers: 6 may come back as 6.0.
        if not isinstance(values, Mapping):
            return values
        return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in values.items()}

    @classmethod
    def of(cls, values: Mapping[str, Any], at: str = "") -> Self:
        """The section that `values` describe. InputError, with `at` before each key's path, if they do not fit."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise InputError(_explain(error, cls, at)) from None


class Split(Section):
    """Shares of a folder without given splits that go to training, validation and test."""

    train: Share = 0.7
    val: Share = 0.15
    test: Share = 0.15

    @model_validator(mode="after")
    def _is_a_partition(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, val and test must add up to 1, but add up to {total:g}")
        for name in ("train", "val", "test"):
            if getattr(self, name) == 0:
                raise ValueError(f"{name} must be above 0: a model is trained, chosen and judged on different samples")
        return self


class Data(Section):
    """A reference to samples and how they are packed.

    `labels: none` takes every sample below the folder without a label; unset, samples have none only where the folder
    holds them and no folders. `size` is the side of the stored samples in pixels and `channels` their number (1 grey,
    3 RGB); unset, they follow from the architecture and from the samples. `duplicates` says what becomes of samples of
    one split that are copies or look the same: `report` keeps them, `drop` keeps one of each, `fail` ends the step;
    samples of different splits never are. `max_refused` and `max_refused_per_class` are the shares of unreadable files
    above which the step ends (never for up to 10 files in all and 5 of a class). `store` says how samples are kept:
    `raw`, as pixels, which read fastest; `jpeg`, of photographs a fifth of the bytes, decoded whenever they are read
    and a little different; `auto`, raw up to 16 GiB of pixels and jpeg above. `fingerprint` is written by `headstart
    run`, not by people: it makes a changed folder a changed parameter, so that a step is never reused for other data.
    """

    uri: Annotated[str, Field(min_length=1)]
    split: Split = Split()
    labels: Literal["none"] | None = None
    labels_per_class: Annotated[int, Field(ge=1)] | None = None
    size: Annotated[int, Field(ge=8, le=1024)] | None = None
    channels: Literal[1, 3] | None = None
    duplicates: Literal["report", "drop", "fail"] = "report"
    max_refused: Share = 0.01
    max_refused_per_class: Share = 0.05
    store: Literal["auto", "raw", "jpeg"] = "auto"
    fingerprint: str | None = None

    @model_validator(mode="after")
    def _limits_labels_that_there_are(self) -> Self:
        if self.labels == "none" and self.labels_per_class is not None:
            raise ValueError("labels_per_class has no meaning where labels is none; remove one of them")
        return self


class Training(Section):
    """The budget and settings of one training; `None` is derived from the size of the training split.

    `batch_size` is the effective one: what one step of the optimiser sees, over all processes and `accumulate`
    micro-batches. `class_weights: auto` weighs classes by their inverse frequency once the largest has over 1.5 times
    the samples of the smallest. `warmup` is the share of all steps over which the learning rate rises. `flip` also
    shows each sample mirrored, which suits photographs and not digits; `augmentation_strength` scales how far
    `augmentation` goes. `views` is how many variants of each sample frozen stages are run on. `ema` is the decay of an
    average of the weights that is kept instead of the last ones. `precision`, `layout` and `compile` pin what is
    measured otherwise.
    """

    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=65_536)] | None = None
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, le=10)] | None = None
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["auto", "none", "balanced"] = "auto"
    patience: Annotated[int, Field(ge=1)] | None = None
    augmentation: Literal["none", "crop", "affine"] = "affine"
    augmentation_strength: Annotated[float, Field(ge=0, le=2)] | None = None
    flip: bool = False
    views: Annotated[int, Field(ge=1, le=64)] | None = None
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    layout: Literal["auto", "contiguous", "channels_last"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"


class Pretraining(Training):
    """How a source model is trained on the source data.

    `supervised` learns the labels; `vicreg` needs none: it learns what two views of a sample share, to the last epoch.
    """

    architecture: Annotated[str, Field(min_length=1)] = "convnet"
    objective: Literal["supervised", "vicreg"] = "supervised"
    batch_size: Annotated[int, Field(ge=1, le=65_536)] | None = 64

    @model_validator(mode="after")
    def _settings_fit_the_objective(self) -> Self:
        if self.objective == "supervised":
            return self
        for key in ("label_smoothing", "class_weights", "augmentation", "accumulate", "patience"):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(
                    f"{key} has no meaning with objective {self.objective}, which reads no labels, augments in its own "
                    "way, compares all samples of a batch and trains to the end; remove it"
                )
        return self


class Source(Section):
    """Where the head start comes from: data to pretrain on, and/or candidate models to choose among."""

    data: Data | None = None
    candidates: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    pretraining: Pretraining = Pretraining()

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: Any) -> Any:
        return _with_tuples(values, "candidates")

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


# Ways to transfer that have a name of their own: `- linear_probe` in a recipe is short for these settings.
PRESETS: dict[str, dict[str, Any]] = {
    "zero": {"transfer": "zero"},
    "linear_probe": {"transfer": "partial", "freeze": "all"},
    "partial": {"transfer": "partial"},
    "full": {"transfer": "full"},
    "lp_ft": {"transfer": "full", "schedule": "lp_ft"},
    "gradual": {"transfer": "full", "schedule": "gradual", "layer_decay": 0.7},
    "surgical": {"transfer": "partial", "surgical": "auto"},
    "wise_ft": {"transfer": "full", "interpolate": "auto"},
    "lora": {"transfer": "partial", "lora": 8},
}


# What begins with a probe whatever the number of samples: what `auto` chooses by was not measured with these.
_REFINEMENTS = ("surgical", "lora", "layer_decay", "interpolate", "regularizer")


# Beginnings of the names of networks that have most of their weights in convolutions, where `lora` adds nothing.
_CONVOLUTIONAL = (
    "alexnet", "convnet", "densenet", "efficientnet", "googlenet", "inception", "mnasnet", "mobilenet", "regnet",
    "resnet", "resnext", "shufflenet", "squeezenet", "vgg", "wide_resnet",
)  # fmt: skip


class Strategy(Section):
    """One way to transfer: kind + schedule + regulariser.

    `schedule` says how training begins: with everything at once (`constant`), after a probe has found the head
    (`lp_ft`), after a probe and one stage more at a time (`gradual`), or by the number of samples with the first or the
    second of these (`auto`, the default; `lp_ft` where the strategy has one of the refinements below).

    A partial transfer trains what its one of these three leaves: `freeze`, the number of stages, from the input on,
    that stay as they are (unset, half of them; `all`, a linear probe); `surgical`, the one part of the stages that
    trains; `lora`, the rank of what is added to the frozen weights of a vision transformer.

    Refinements: `surgical` and `lora`; `layer_decay`, by which the learning rate is multiplied from stage to stage
    towards the input; `interpolate`, the share of the fine-tuned weights that is mixed with those before fine-tuning
    (`auto` is chosen on the validation split); `regularizer`, R in Σ L + λ R(w), whose λ is `strength`, 0.01 unless
    set. `epochs` and `learning_rate` override those of `training` for this strategy.
    """

    name: Annotated[str, Field(pattern=_NAME)]
    transfer: Transfer
    schedule: Literal["auto", "constant", "lp_ft", "gradual"] | None = None
    freeze: Annotated[int, Field(ge=1)] | Literal["all"] | None = None
    surgical: Literal["first", "middle", "last", "auto"] | None = None
    lora: Annotated[int, Field(ge=1, le=256)] | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    interpolate: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] | None = None
    regularizer: Literal["l2", "l2_sp", "delta"] | None = None
    strength: Annotated[float, Field(ge=0)] | None = None
    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    learning_rate: Annotated[float, Field(gt=0, le=10)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, values: Any) -> Any:
        # `- zero` is short for `- {name: zero, transfer: zero}`, and a name may be left out where the kind says it.
        if isinstance(values, str):
            values = {"name": values, **PRESETS.get(values, {"transfer": values})}
        if not isinstance(values, Mapping):
            return values
        kind = values.get("transfer")
        implied: dict[str, Any] = {"name": kind} if isinstance(kind, str) else {}
        if kind in ("partial", "full"):
            refined = values.get("freeze") == "all" or any(values.get(key) is not None for key in _REFINEMENTS)
            implied["schedule"] = "lp_ft" if refined else "auto"
        if values.get("regularizer") is not None:
            implied["strength"] = 0.01
        return {**implied, **values}

    @model_validator(mode="after")
    def _settings_fit_the_kind(self) -> Self:
        if self.transfer == "zero":
            for key in sorted(type(self).model_fields.keys() - {"name", "transfer"}):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} has no meaning in a zero transfer, which trains nothing; remove it")
        parts = [key for key in ("freeze", "surgical", "lora") if getattr(self, key) is not None]
        if self.transfer == "full" and parts:
            raise ValueError(f"{parts[0]} has no meaning in a full transfer, which trains every stage; use partial")
        if len(parts) > 1:
            raise ValueError(f"{parts[0]} and {parts[1]} each say which part trains; keep one of them")
        if self.transfer == "partial" and self.schedule == "gradual":
            raise ValueError("schedule: gradual unfreezes every stage in the end; use it with transfer: full")
        if self.freeze == "all":
            for key in ("layer_decay", "interpolate", "regularizer", "epochs", "learning_rate"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} has no meaning where freeze is all: the head is fitted, not trained")
        if self.regularizer is None and self.strength is not None:
            raise ValueError("strength needs a regularizer: l2, l2_sp or delta")
        return self


class Evaluation(Section):
    """How the result is judged: `min_gain` is the gain over scratch that counts as help.

    `seeds` is how many times scratch is trained, each time with another seed: how far these differ widens the gains'
    intervals, which otherwise tell nothing of what another training would have given.
    `curve` lists the labels a class at which the data-efficiency curve has points beside that of all labels; none, no
    curve. It is fitted to frozen features, in seconds; `curve_training` adds the chosen strategy and scratch, which are
    trained three times for each point. `robustness` is how many test items are corrupted in 21 ways, and `explanations`
    how many are explained; 0, none.
    """

    metric: Metric = "accuracy"
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    min_gain: Annotated[float, Field(ge=0, lt=1)] = 0.0
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000
    seeds: Annotated[int, Field(ge=1, le=20)] = 1
    curve: tuple[Annotated[int, Field(ge=1, le=100_000)], ...] = (1, 2, 5, 10, 25, 50, 100)
    curve_training: bool = False
    robustness: Annotated[int, Field(ge=0, le=100_000)] = 100
    explanations: Annotated[int, Field(ge=0, le=100)] = 8

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: Any) -> Any:
        # Strict models take tuples only, YAML and JSON know lists only; and KFP no integers, as above.
        if isinstance(values, Mapping) and isinstance(values.get("curve"), list):
            whole = (int(v) if isinstance(v, float) and v.is_integer() else v for v in values["curve"])
            return {**values, "curve": tuple(whole)}
        return values

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.curve_training and not self.curve:
            raise ValueError("curve_training needs points: list labels a class in curve, for example [5, 10]")
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

    name: Annotated[str, Field(pattern=_NAME)]
    modality: Literal["image"] = "image"
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
        return _with_tuples(values, "strategies", "baselines")

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
        if adapting and all(name and name.startswith(_CONVOLUTIONAL) for name in architectures):
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


def read_mapping(path: Path, kind: str) -> dict[str, Any]:
    """The YAML mapping in a file that holds a `kind`, for example a recipe. InputError if there is none."""
    try:
        values = yaml_text.read(path)
    except FileNotFoundError:
        raise InputError(f"There is no {kind} at {path}; give the path of a YAML file.") from None
    except yaml_text.UnreadableText as error:
        raise InputError(f"{path}: {error}.") from None
    except OSError as error:
        raise InputError(
            f"The {kind} {path} cannot be read ({error.strerror}); give the path of a YAML file."
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: a {kind} is a mapping of keys to values.")
    return values


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    shown = _SHORT.repr(override)
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
        raise InputError(f"--set {shown}: write key=value, for example --set target.data.labels_per_class=10.")
    try:
        value = yaml_text.parse(text)
    except yaml_text.UnreadableText as error:
        raise InputError(f"--set {shown}: the value is not valid YAML ({error}).") from None
    *parents, last = key.split(".")
    place: Any = values
    for index, part in enumerate((*parents, last)):
        is_last = index == len(parents)
        if isinstance(place, list):
            # A list's entries are addressed by position, or by name where they have one.
            found = [i for i, item in enumerate(place) if str(i) == part or _name_of(item) == part]
            if not found:
                raise InputError(f"--set {shown}: there is no entry {part!r} in that list.")
            if isinstance(place[found[0]], str) and not is_last:
                short = place[found[0]]
                place[found[0]] = {"name": short, **PRESETS.get(short, {"transfer": short})}
            slot: Any = found[0]
        elif isinstance(place, dict):
            slot = part
            if not is_last and place.get(part) is None:
                place[part] = {}
        else:
            raise InputError(f"--set {shown}: {'.'.join(key.split('.')[:index])} is not a mapping.")
        if is_last:
            place[slot] = value
        else:
            place = place[slot]


def _name_of(item: Any) -> str | None:
    return item.get("name", item.get("transfer")) if isinstance(item, dict) else item if isinstance(item, str) else None


def _with_tuples(values: Any, *keys: str) -> Any:
    # Strict models take tuples only, YAML and JSON know lists only.
    if not isinstance(values, Mapping):
        return values
    return {key: tuple(value) if key in keys and isinstance(value, list) else value for key, value in values.items()}


def _explain(error: ValidationError, section: type[BaseModel], at: str) -> str:
    problems = error.errors()
    lines = [_sentence(problem, section) for problem in problems[:_MOST_PROBLEMS]]
    if len(problems) > len(lines):
        lines.append(f"and {len(problems) - len(lines)} further keys are wrong.")
    prefix = f"{at}: " if at else ""
    return "\n".join(prefix + line for line in lines)


def _named(key: Any) -> str:
    return shortened(str(key), _LONGEST_NAME)


def _sentence(problem: Any, section: type[BaseModel]) -> str:
    path = ""
    for part in problem["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{_named(part)}" if path else _named(part)
    kind, given, context = problem["type"], _SHORT.repr(problem.get("input")), problem.get("ctx", {})
    where = f"{path}: " if path else ""
    match kind:
        case "extra_forbidden":
            known = _keys_at(section, problem["loc"][:-1])
            close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}."
            return f"{where}unknown key; {hint}"
        case "missing":
            return f"{where}missing; add it."
        case "literal_error":
            return f"{where}{given} is not one of {context['expected']}."
        case "value_error":
            return f"{where}{context['error']}."
        case "string_pattern_mismatch":
            return (
                f"{where}{given} is not a name: use lower-case letters, digits, - and _, "
                "starting with a letter or digit, 63 at most."
            )
        case "model_type" | "dict_type":
            return f"{where}{given} must be a mapping of keys to values."
        case "tuple_type":
            return f"{where}{given} must be a list."
        case _:
            message = problem["msg"].removeprefix("Input should be ")
            return f"{where}{given} must be {message}."


def _keys_at(section: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """The keys that the section at `location` below `section` knows."""
    model: type[BaseModel] = section
    for part in location:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        if field is None:
            break
        pending = [field.annotation]
        while pending:
            annotation: Any = pending.pop()
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation
                break
            pending.extend(get_args(annotation))
    return sorted(model.model_fields)
