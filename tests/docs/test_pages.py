"""What the documentation says about the code: commands, recipes, messages, variables and keys that exist."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from headstart.recipe.recipe import Recipe, Source
from headstart.searching.section import Search
from headstart.strategies.regularizer import REGULARIZERS
from headstart.strategies.section import STRATEGIES
from headstart.tracking.policy import Policy
from headstart_pipelines import cli
from tests.docs.pages import PAGES, ROOT, Block, blocks, commands

CONSOLE = [block for page in PAGES for block in blocks(page, "console")]
YAML = [block for page in PAGES for block in blocks(page, "yaml")]


def _name(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}: {block.text.partition(chr(10))[0]}"


@pytest.mark.parametrize("block", [block for block in CONSOLE if "headstart " in block.text], ids=_name)
def test_every_headstart_command_is_one_that_the_command_line_takes(block):
    found = [re.search(r"(?:^|/)headstart (?!models)(.*)", command) for command in commands(block)]
    for match in filter(None, found):
        cli._parser().parse_args(shlex.split(match[1], comments=True))


@pytest.mark.parametrize("block", CONSOLE, ids=_name)
def test_every_make_target_exists(block):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in commands(block):
        if command.startswith("make "):
            assert command.split()[1] in targets


@pytest.mark.parametrize("block", YAML, ids=_name)
def test_every_yaml_block_is_a_recipe_a_part_of_one_or_a_policy(block):
    values = yaml.safe_load(block.text)
    if "name" in values:
        Recipe.of(values)
    elif "source" in values:
        Source.of(values["source"])
    elif "search" in values:
        Search.of(values["search"])
    elif "strategies" in values:
        Recipe.of({"name": "page", "source": {"data": {"uri": "a"}}, "target": {"data": {"uri": "b"}}, **values})
    else:
        Policy.of(values)


# Messages


@cache
def _texts() -> list[str]:
    """Every text in the code; what is filled in is an ellipsis."""
    return [text for floor in ("headstart", "pipelines") for path in (ROOT / floor).rglob("*.py") for text in _of(path)]


def _of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _messages() -> list[str]:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    cells = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| `")]
    return [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize("message", _messages())
def test_every_message_of_the_page_on_troubles_is_one_of_the_code(message):
    # The fixed parts of a message, the values of examples aside.
    parts = [part.strip() for part in re.split(r"…|\bnan\b|\b5000\b|\b1\.0%", message)]
    wanted = [part for part in parts if len(part) > 3]
    assert any(all(part in text for part in wanted) for text in _texts()), wanted


def test_every_variable_of_the_page_on_the_environment_is_read_by_the_code():
    page = (ROOT / "docs" / "reference" / "environment.md").read_text()
    listed = set(re.findall(r"`(HEADSTART_[A-Z_]+)`", page))
    code = {name for text in _texts() for name in re.findall(r"\bHEADSTART_[A-Z_]+\b", text)}
    assert listed
    assert listed <= code


# Names and keys


def test_every_strategy_and_regulariser_has_its_place_on_the_page():
    page = (ROOT / "docs" / "explanation" / "strategies.md").read_text()
    assert STRATEGIES.keys() <= set(re.findall(r"^## (\w+)$", page, re.MULTILINE))
    assert all(f"| `{name}` |" in page for name in REGULARIZERS)


def _keys(section: str) -> set[str]:
    page = (ROOT / "docs" / "reference" / "json.md").read_text()
    part = page.split(f"## {section}\n")[1].split("\n## ")[0]
    cells = [line.split(" | ")[0] for line in part.splitlines() if line.startswith("| `")]
    return {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}


def test_the_keys_of_json_outputs_are_those_that_the_page_lists(own, capsys):
    def answer(*arguments: str):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            cli.main([*arguments, "--json", "--workspace", str(own.workspace)])
        return json.loads(capsys.readouterr().out)

    compared = {key.replace("<metric>", "accuracy") for key in _keys("compare")}
    assert all(row.keys() == compared for row in answer("compare", "digits"))
    assert answer("promote", "digits-target", "--reason", "a test").keys() == _keys("promote")
    (change,) = answer("history", "digits-target")
    assert change.keys() == _keys("history")


def test_the_picture_of_the_pipeline_names_every_step(fresh):
    drawn = set(re.findall(r'font-weight="600"[^>]*>([^<]+)</text>', (ROOT / "docs" / "pipeline.svg").read_text()))
    worked = {step.partition(" ")[0] if step.startswith("finetune") else step for step in fresh.worked}
    assert drawn == worked
