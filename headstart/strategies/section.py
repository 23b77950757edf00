"""The recipe's section of a strategy."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from headstart.sections import NAME, Section

Transfer = Literal["zero", "partial", "full"]


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


_CONVOLUTIONAL = (
    "alexnet", "convnet", "densenet", "efficientnet", "googlenet", "inception", "mnasnet", "mobilenet", "regnet",
    "resnet", "resnext", "shufflenet", "squeezenet", "vgg", "wide_resnet",
)  # fmt: skip


def is_convolutional(architecture: str) -> bool:
    """Whether a network of this name has most of its weights in convolutions, to which LoRA adds nothing."""
    return architecture.startswith(_CONVOLUTIONAL)


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

    name: Annotated[str, Field(pattern=NAME)]
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
