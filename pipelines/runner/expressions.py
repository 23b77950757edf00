"""The expressions of a compiled package: a condition of dsl.If, and the part of a value that a loop or a step reads.

KFP's compiler writes both in CEL; this reads the subset that it writes and refuses the rest. Nothing is evaluated as
Python.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from headstart.errors import InputError

_TOKEN = re.compile(
    r"\s*(?:(?P<name>inputs\.parameter_values\[['\"](?P<key>[^'\"]+)['\"]\])|(?P<text>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<number>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)|(?P<word>true|false|int|double|string|bool)\b"
    r"|(?P<sign>&&|\|\||==|!=|>=|<=|>|<|!|\(|\)))"
)
_PART = re.compile(r'parseJson\(string_value\)((?:\["[^"]*"\]|\[\d+\])+)')
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}
_CASTS: dict[str, Callable[[Any], Any]] = {
    "int": int,
    "double": float,
    "string": lambda value: value if isinstance(value, str) else json.dumps(value),
    "bool": lambda value: value if isinstance(value, bool) else str(value).lower() == "true",
}


def holds(condition: str, parameters: Mapping[str, Any]) -> bool:
    """Whether a condition holds for a task's parameters.

    Raises:
        InputError: the condition has a form that is not known here, or compares what cannot be compared.
    """
    reader = _Condition(condition, parameters)
    try:
        return bool(reader.whole())
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"The package's condition {condition} cannot be decided: {error}.") from None


def part(expression: str, value: Any) -> Any:
    """The part of a value that an expression such as `parseJson(string_value)["name"]` names.

    Raises:
        InputError: the expression has another form, or the value has no such part.
    """
    found = _PART.fullmatch(expression)
    if not found:
        raise InputError(f"The package's expression {expression} is not understood by a local run.")
    value = json.loads(value) if isinstance(value, str) else value
    for key in re.findall(r"\[(.*?)\]", found[1]):
        try:
            value = value[json.loads(key)]
        except (KeyError, IndexError, TypeError):
            raise InputError(f"The package reads {expression} of a value that has no such part.") from None
    return value


class _Condition:
    """A condition that is read from left to right: || of && of comparisons."""

    def __init__(self, text: str, parameters: Mapping[str, Any]) -> None:
        self._text, self._parameters = text, parameters
        self._tokens: list[tuple[str, str]] = []
        end = 0
        while text[end:].strip():
            found = _TOKEN.match(text, end)
            if not found:
                raise InputError(f"The package's condition {text} is not understood by a local run.")
            kind = next(name for name in ("name", "text", "number", "word", "sign") if found[name])
            self._tokens.append((kind, found["key"] if kind == "name" else found[kind]))
            end = found.end()

    def whole(self) -> Any:
        value = self._any()
        if self._tokens:
            raise ValueError(f"{self._tokens[0][1]} is unexpected")
        return value

    def _any(self) -> Any:
        value = self._all()
        while self._took("||"):
            other = self._all()
            value = value or other
        return value

    def _all(self) -> Any:
        value = self._comparison()
        while self._took("&&"):
            other = self._comparison()
            value = value and other
        return value

    def _comparison(self) -> Any:
        value = self._operand()
        for sign, compare in _COMPARISONS.items():
            if self._took(sign):
                return compare(value, self._operand())
        return value

    def _operand(self) -> Any:
        if self._took("!"):
            return not self._operand()
        if self._took("("):
            value = self._any()
            self._need(")")
            return value
        kind, text = self._tokens.pop(0) if self._tokens else ("", "")
        match kind:
            case "name":
                return self._parameters[text]
            case "text":
                return re.sub(r"\\(.)", r"\1", text[1:-1])
            case "number":
                return float(text)
            case "word" if text in ("true", "false"):
                return text == "true"
            case "word":
                self._need("(")
                value = _CASTS[text](self._any())
                self._need(")")
                return value
        raise ValueError(f"{text or 'its end'} is unexpected")

    def _took(self, sign: str) -> bool:
        if self._tokens and self._tokens[0] == ("sign", sign):
            self._tokens.pop(0)
            return True
        return False

    def _need(self, sign: str) -> None:
        if not self._took(sign):
            raise ValueError(f"{sign} is missing")
