"""YAML parser for recipes and policies: no duplicate keys, bounded cost, errors with line and column.

A recipe may come from anyone: aliases that expand to a billion values, numbers of thousands of digits and unclosed
brackets are refused like any other mistake.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

LIMIT = 2**18
"""Maximum bytes of a file. A recipe has a few thousand."""

_EXPANDED = 4 * LIMIT
"""Maximum characters and values of a text with its aliases expanded."""

_LONGEST_NUMBER = 64
"""Maximum characters of a number. YAML 1.1's base-60 numbers take quadratic time to parse."""


_LONGEST_PROBLEM = 200


class UnreadableText(ValueError):  # noqa: N818 - a text's state
    """A text that is not accepted as YAML; the message is a clause with cause, place and remedy."""


def parse(text: str) -> Any:
    """Return the values of a YAML text.

    Raises:
        UnreadableText: it is not accepted; the message gives cause and line.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _check(root)
        return loader.construct_document(root)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = (getattr(error, "problem", None) or "not valid YAML")[:_LONGEST_PROBLEM]
        raise UnreadableText(f"{place}{problem}{'' if isinstance(error, _Refusal) else '; correct it'}") from None
    except RecursionError:
        raise UnreadableText("it is nested too deeply; make it flatter") from None
    finally:
        loader.dispose()


def read(path: Path) -> Any:
    """Return the values of a YAML file.

    Raises:
        UnreadableText: as `parse`, or it is too long or not UTF-8.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise UnreadableText(f"it has more than {LIMIT // 2**10} KiB; give a file that people can read")
    try:
        return parse(content.decode())
    except UnicodeDecodeError:
        raise UnreadableText("it cannot be read as text in UTF-8; save it as that") from None


class _Loader(yaml.SafeLoader):
    """YAML loader that reads 1e-4 as a number, as JSON does; YAML 1.1 requires 1.0e-4."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        kind = node.tag.rpartition(":")[2]
        try:
            if kind in ("int", "float") and len(node.value) > _LONGEST_NUMBER:
                raise ValueError
            return super().construct_object(node, deep)
        # Errors of PyYAML's constructors, for example for the 30th of February.
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError):
            problem = f"{_short(node)} cannot be read as {kind}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


def _check(root: yaml.Node) -> None:
    """Refuse duplicate keys, and aliases that contain themselves or expand beyond the limit."""
    sizes: dict[int, int | None] = {}

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            known = sizes[id(node)]
            if known is None:
                raise _refused("an alias stands for what it is a part of; write out what is meant", node)
            return known
        sizes[id(node)] = None
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            total = 1 + sum(size(key) + size(value) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            total = 1 + sum(size(item) for item in node.value)
        else:
            total = 1 + len(node.value)
        if total > _EXPANDED:
            raise _refused("its aliases stand for more values than a recipe has; write fewer", node)
        sizes[id(node)] = total
        return total

    size(root)


def _check_keys(node: yaml.MappingNode) -> None:
    lines: dict[Hashable, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        name, line = (key.tag, key.value), key.start_mark.line + 1
        if name in lines:
            raise _refused(f"the key {_short(key)} stands in line {lines[name]} already; keep one of them", key)
        lines[name] = line


class _Refusal(yaml.MarkedYAMLError):
    """A refusal of valid YAML; the problem names its remedy."""


def _refused(problem: str, node: yaml.Node) -> _Refusal:
    return _Refusal(problem=problem, problem_mark=node.start_mark)


def _short(node: yaml.Node) -> str:
    text = str(node.value)
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
