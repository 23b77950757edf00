"""The commands of infra/README.md for a cluster on one machine, which are those of the test."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).parents[2] / "infra" / "README.md"


@dataclass(frozen=True)
class Step:
    """A numbered step: what stands in bold at its head, and the commands of its code blocks in order."""

    number: int
    title: str
    commands: tuple[str, ...]


def steps(text: str | None = None) -> list[Step]:
    """The steps of the section "Local: one machine"."""
    section = re.search(r"^## Local: one machine$(.*?)^## ", text or README.read_text(), re.MULTILINE | re.DOTALL)
    assert section, f"{README} has no section for one machine"
    found = []
    for each in re.split(r"^(?=\d+\. \*\*)", section[1], flags=re.MULTILINE)[1:]:
        head = re.match(r"(\d+)\. \*\*(.+?)\W*\*\*", each)
        assert head, each
        blocks = re.findall(r"^( +)```console\n(.*?)^\1```", each, re.MULTILINE | re.DOTALL)
        lines = [line for _, block in blocks for line in _commands(textwrap.dedent(block))]
        found.append(Step(int(head[1]), head[2], tuple(lines)))
    return found


def _commands(block: str) -> list[str]:
    """The block's commands; one that goes on after a backslash is one command."""
    return [command for command in re.sub(r"\\\n\s*", "", block).splitlines() if command.strip()]
