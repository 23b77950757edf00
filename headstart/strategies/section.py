"""The recipe's section of a strategy, and the registry of the strategies.

A strategy is a section: its fields are its settings, `carry` does the transfer, and its file's docstring explains both.
Recipes are read without torch, so a strategy imports what it works with inside its methods.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from headstart.registry import Registry
from headstart.searchable import Choices, Range
from headstart.sections import NAME, Section
from headstart.strategies.regularizer import REGULARIZERS

if TYPE_CHECKING:
    from headstart.models.network import Network
    from headstart.strategies.task import Task
    from headstart.training.trained import Trained

STRATEGIES: "Registry[type[Strategy]]" = Registry(
    "strategies",
    "headstart.strategies.methods",
    "STRATEGY",
    type(Section),  # type: ignore[arg-type]  # the class of all sections' classes
)

Epochs = Annotated[Annotated[int, Field(ge=1, le=10_000)] | None, Range(0.5, 2.0, log=True, of="rule")]
LearningRate = Annotated[Annotated[float, Field(gt=0, le=10)] | None, Range(3e-5, 1e-2, log=True)]
AugmentationName = Annotated[Annotated[str, Field(min_length=1)] | None, Choices(of="augmentations")]
AugmentationStrength = Annotated[Annotated[float, Field(ge=0, le=2)] | None, Range(0.25, 1.5, beside="augmentation")]

ANY = object()
"""In a signature: any value but null."""


class Strategy(Section):
    """One way to transfer.

    `transfer` is its kind. Which strategy it is follows from the kind and the settings, or is said by `strategy`. A
    name alone, as in `- lora`, is short for the strategy of that name with the settings that it has by default.
    """

    name: Annotated[str, Field(pattern=NAME)]
    transfer: Literal["zero", "partial", "full"]
    strategy: Annotated[str, STRATEGIES] | None = None

    signature: ClassVar[Mapping[str, Any]] = {}
    """The settings by which a recipe describes this strategy without naming it; none, it has to be named."""
    short_for: ClassVar[Mapping[str, Any]] = {}
    """The settings that the name alone stands for."""
    in_every_recipe: ClassVar[Mapping[str, Any] | None] = None
    """The entry of a recipe that lists no strategies; None, it has none."""
    trains: ClassVar[bool] = True
    """Whether it trains step by step, so that several processes can share the work."""
    searched: ClassVar[bool] = True
    """Whether a search tries it that does not name its strategies: it is made to be accurate, not small."""

    def carry(self, task: "Task") -> "Trained":
        """Make a model of the task's source for the task's target."""
        raise NotImplementedError

    def check_stages(self, stages: int, model: str) -> None:
        """InputError if a network of so many stages, called `model`, cannot be transferred so."""

    def among(self, listed: "Mapping[str, Strategy]") -> "Strategy":
        """The strategy in a recipe that lists these, by name; ValueError if it names one that is not there."""
        return self

    @property
    def copy_of(self) -> str | None:
        """The name of the strategy of whose model it makes a smaller copy; None, its model is its own."""
        return None

    def require_packages(self) -> None:
        """InputError if a package that it works with is not installed."""

    def check_architectures(self, architectures: Sequence[str | None]) -> None:
        """ValueError if none of the sources can be transferred so; None is an architecture that is not known yet."""

    @classmethod
    def with_defaults(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The settings with those that follow from others."""
        return {"name": values.get("strategy") or values.get("transfer"), **values}

    @classmethod
    def no_meaning(cls, key: str) -> str | None:
        """Explain why `key`, a setting of other strategies, is none here; None, it is a key that nobody knows."""
        return None

    @classmethod
    def known_keys(cls) -> set[str]:
        members = [STRATEGIES[name] for name in STRATEGIES.built_in] if cls is Strategy else []
        return {key for each in (cls, *members) for key in each.model_fields}

    @model_validator(mode="wrap")
    @classmethod
    def _is_a_member(cls, values: Any, handler: Callable[[Any], Self]) -> "Strategy":
        if cls is not Strategy or isinstance(values, Strategy):
            return handler(values)
        values = written_out(values) if isinstance(values, str) else values
        if not isinstance(values, Mapping):
            return handler(values)
        if values.get("strategy") is not None:
            named = STRATEGIES[STRATEGIES.require(str(values["strategy"]))]
            return named.model_validate(named.with_defaults({**named.short_for, **values}))
        if described := _described(values):
            # A default may be the setting that makes it another one.
            values = described.with_defaults(values)
            return (_described(values) or described).model_validate(values)
        # Only `transfer` can be wrong then, and is explained alone.
        return handler({"name": "any", **{key: values[key] for key in values if key == "transfer"}})

    @model_validator(mode="before")
    @classmethod
    def _settings_are_its_own(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or cls is Strategy:
            return values
        named = values.get("strategy")
        others = Strategy.known_keys() - cls.model_fields.keys()
        for key in sorted(others & values.keys()):
            reason = cls.no_meaning(key)
            owners = [name for name in STRATEGIES.built_in if key in STRATEGIES[name].model_fields]
            if not any(STRATEGIES[name].signature for name in owners):
                reason = f"{key} is a setting of {' and '.join(owners)}; add strategy: {owners[0]}, or remove it"
            if values[key] is not None and reason:
                raise ValueError(reason)
        for key, value in cls.signature.items():
            if not _is_value(values.get(key), value):
                raise ValueError(f"{key} is {values.get(key)!r}, which is not the strategy {named}; remove one of them")
        return {key: value for key, value in values.items() if key not in others or value is not None}


def own_training(strategy: Strategy) -> dict[str, Any]:
    """The settings of the recipe's section `training` that a strategy has of its own."""
    given = {
        key: getattr(strategy, key) for key in ("epochs", "learning_rate", "augmentation", "augmentation_strength")
    }
    return {key: value for key, value in given.items() if value is not None}


class FineTuning(Strategy):
    """A strategy that trains from the source's weights on.

    `schedule` says how training begins: with everything at once (`constant`), after a probe has found the head
    (`lp_ft`), after a probe and one stage more at a time (`gradual`), or by the number of samples with the first or the
    second of these (`auto`, the default; `lp_ft` where one of the following is set).

    `layer_decay` multiplies the learning rate from stage to stage towards the input. `interpolate` is the share of the
    fine-tuned weights that is mixed with those before fine-tuning (`auto` is chosen on the validation split).
    `regularizer` is R in Σ L + λ R(w), and `strength` λ, 0.01 by default. `epochs`, `learning_rate`, `augmentation` and
    `augmentation_strength` override those of the recipe's section `training`.
    """

    schedule: Annotated[Literal["auto", "constant", "lp_ft", "gradual"] | None, Choices(("constant", "lp_ft"))] = None
    layer_decay: Annotated[Annotated[float, Field(gt=0, le=1)] | None, Range(0.5, 1.0)] = None
    interpolate: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] | None = None
    regularizer: Annotated[Annotated[str, REGULARIZERS] | None, Choices(REGULARIZERS, optional=True)] = None
    strength: Annotated[Annotated[float, Field(ge=0)] | None, Range(1e-4, 1.0, log=True, beside="regularizer")] = None
    epochs: Epochs = None
    learning_rate: LearningRate = None
    augmentation: AugmentationName = None
    augmentation_strength: AugmentationStrength = None

    refined: ClassVar[bool] = False
    """Whether a probe comes first whatever the number of samples: `auto` was not studied with these."""

    def carry(self, task: "Task") -> "Trained":
        from headstart.strategies.fine_tuning import fine_tune

        return fine_tune(self, task)

    def choose_part(self, task: "Task") -> dict[str, str]:
        """Leave those weights of the task's model trainable that this strategy trains; return what was decided."""
        task.bundle.network.unfreeze()
        return {}

    def settled(self, decisions: Mapping[str, str | float | None]) -> Self:
        """The strategy with what a training decided in the place of its own choices."""
        chosen = {"schedule": decisions["schedule"], "interpolate": decisions.get("alpha")}
        return self.model_copy(update=chosen)

    def finish(self, network: "Network") -> None:
        """Give the trained network the parameters of its architecture again."""

    @classmethod
    def with_defaults(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        refined = cls.refined or any(
            values.get(key) is not None for key in ("layer_decay", "interpolate", "regularizer")
        )
        strength = {} if values.get("regularizer") is None else {"strength": 0.01}
        return {"schedule": "lp_ft" if refined else "auto", **strength, **super().with_defaults(values)}

    @model_validator(mode="after")
    def _strength_has_a_regularizer(self) -> Self:
        if self.regularizer is None and self.strength is not None:
            raise ValueError(f"strength needs a regularizer: {' or '.join(REGULARIZERS)}")
        return self


class FullTransfer(FineTuning):
    """A strategy that trains every stage."""

    @classmethod
    def no_meaning(cls, key: str) -> str | None:
        return f"{key} has no meaning in a full transfer, which trains every stage; use partial"


class PartialTransfer(FineTuning):
    """A strategy that trains a part of the stages, which the setting called `part` says."""

    part: ClassVar[str]

    @classmethod
    def no_meaning(cls, key: str) -> str | None:
        return f"{' and '.join(sorted((key, cls.part)))} each say which part trains; keep one of them"

    @model_validator(mode="after")
    def _keeps_its_part(self) -> Self:
        if self.schedule == "gradual":
            raise ValueError("schedule: gradual unfreezes every stage in the end; use it with transfer: full")
        return self


def written_out(name: str) -> dict[str, Any]:
    """The settings that a strategy's name alone is short for, or a kind's."""
    if name not in STRATEGIES:
        return {"name": name, "transfer": name}
    outright = {} if name in STRATEGIES.built_in else {"strategy": name}
    return {"name": name, **outright, **STRATEGIES[name].short_for}


def default_strategies() -> tuple[Strategy, ...]:
    """The strategies of a recipe that lists none: what trains least first."""
    members = (STRATEGIES[name] for name in STRATEGIES.built_in)
    found = [Strategy.of(member.in_every_recipe) for member in members if member.in_every_recipe]
    return tuple(sorted(found, key=lambda each: ("zero", "partial", "full").index(each.transfer)))


def _described(values: Mapping[str, Any]) -> type[Strategy] | None:
    """The strategy with the most settings in its signature, all of which are those of `values`."""
    members = (STRATEGIES[name] for name in STRATEGIES.built_in)
    named = [each for each in members if each.signature]
    found = [each for each in named if all(_is_value(values.get(k), v) for k, v in each.signature.items())]
    return max(found, key=lambda each: len(each.signature), default=None)


def _is_value(given: Any, value: Any) -> bool:
    return given is not None if value is ANY else given == value
