"""The pages that people read, and the code blocks in them."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of code: the page that it stands on, its language and its text."""

    page: Path
    language: str
    text: str


def blocks(page: Path, language: str) -> list[Block]:
    """The page's blocks of one language, in order."""
    found = [Block(page, match[2], textwrap.dedent(match[3])) for match in _FENCE.finditer(page.read_text())]
    return [block for block in found if block.language == language]


def commands(block: Block) -> list[str]:
    """The commands of a console block; one that goes on after a backslash is one command."""
    return [line for line in re.sub(r"\\\n\s*", "", block.text).splitlines() if line.strip()]
