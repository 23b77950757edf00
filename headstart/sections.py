"""The base of every section of a recipe: strict types, unknown keys refused, explanations in a person's words.

Each section is a plain typed object beside the code that it sets. The pipelines take the same sections as parameters,
so a component turns its parameter back into the section with `Section.of(...)` and gets the same checks.
"""

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from headstart import yaml_text
from headstart.errors import InputError, shortened

Share = Annotated[float, Field(ge=0, le=1)]

# Experiment, strategy and registry names end up in URIs, file names and MLflow: one safe alphabet for all.
NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"

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

    @classmethod
    def known_keys(cls) -> set[str]:
        """The keys that a message may suggest in the place of one that is wrong."""
        return set(cls.model_fields)


def shortened_repr(value: Any) -> str:
    """A value as messages show it: whoever gave a long one knows the rest of it."""
    return _SHORT.repr(value)


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


def with_tuples(values: Any, *keys: str) -> Any:
    # Strict models take tuples only, YAML and JSON know lists only.
    if not isinstance(values, Mapping):
        return values
    return {key: tuple(value) if key in keys and isinstance(value, list) else value for key, value in values.items()}


def _explain(error: ValidationError, section: type[Section], at: str) -> str:
    problems = error.errors()
    lines = [_sentence(problem, section) for problem in problems[:_MOST_PROBLEMS]]
    if len(problems) > len(lines):
        lines.append(f"and {len(problems) - len(lines)} further keys are wrong.")
    prefix = f"{at}: " if at else ""
    return "\n".join(prefix + line for line in lines)


def _named(key: Any) -> str:
    return shortened(str(key), _LONGEST_NAME)


def _sentence(problem: Any, section: type[Section]) -> str:
    path = ""
    for part in problem["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{_named(part)}" if path else _named(part)
    kind, given, context = problem["type"], shortened_repr(problem.get("input")), problem.get("ctx", {})
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


def _keys_at(section: type[Section], location: Sequence[Any]) -> list[str]:
    """The keys that the section at `location` below `section` knows."""
    model: type[Section] = section
    for part in location:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        if field is None:
            break
        pending = [field.annotation]
        while pending:
            annotation: Any = pending.pop()
            if isinstance(annotation, type) and issubclass(annotation, Section):
                model = annotation
                break
            pending.extend(get_args(annotation))
    return sorted(model.known_keys())
