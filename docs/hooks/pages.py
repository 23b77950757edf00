"""Pages of the site that are made from the code and from the repository's own files whenever the site is built.

`mkdocs` calls the functions whose names begin with `on_`.
"""

import argparse
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
# The repository's own files that are pages too, where they lie.
_OWN_PAGES = ("infra/README.md", "infra/SCALING.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
_MEANINGS = yaml.safe_load((Path(__file__).parent / "meanings.yaml").read_text())
_NO_PAGE = re.compile(r"\[([^\]]+)\]\((?!https?://|#)([^)#]+)(#[^)]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists every study, by its file's name."""
    studies = sorted(path.name for path in (ROOT / "docs" / "studies").glob("*.md") if path.name != "index.md")
    for entry in config.nav or []:
        if isinstance(entry, dict) and "Studies" in entry:
            entry["Studies"] = ["studies/index.md", *(f"studies/{name}" for name in studies)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that nobody writes by hand."""
    pages: dict[str, Callable[[], str]] = {
        "reference/recipe.md": recipe_page,
        "reference/policy.md": policy_page,
        "reference/cli.md": command_page,
        "reference/python.md": python_page,
    }
    for name, page in pages.items():
        files.append(File.generated(config, name, content=page()))
    for name in _OWN_PAGES:
        files.append(File.generated(config, name, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Makes links to files of the repository that are no pages plain text, and lists the studies."""
    place = Path(page.file.src_uri).parent

    def replace(link: re.Match[str]) -> str:
        target = _resolved(place, link[2])
        if files.get_file_from_path(target) or files.get_file_from_path(target.removeprefix("docs/")):
            return link[0].replace(link[2], _relative(place, target.removeprefix("docs/")))
        exists = (ROOT / target).exists() or (ROOT / "docs" / target).exists()
        return f"`{target.removeprefix('docs/')}`" if exists else link[0]

    if page.file.src_uri == "studies/index.md":
        studies = sorted(file.src_uri for file in files.documentation_pages() if file.src_uri.startswith("studies/"))
        titles = {name: (ROOT / "docs" / name).read_text().partition("\n")[0].lstrip("# ") for name in studies}
        markdown += "\n" + "".join(
            f"- [{title}]({Path(name).name})\n" for name, title in titles.items() if not name.endswith("/index.md")
        )
    return _NO_PAGE.sub(replace, markdown)


def _resolved(place: Path, link: str) -> str:
    """The target of a link on a page in `place`, from the root of the documentation or, above that, the repository."""
    parts: list[str] = []
    for part in (place / link).parts:
        if part == ".." and parts:
            parts.pop()
        elif part != "..":
            parts.append(part)
    return "/".join(parts)


def _relative(place: Path, target: str) -> str:
    return "../" * len(place.parts) + target


# The recipe and the policy


# The recipe's sections in the order of the page: title, class and summary. Others follow, with the first line of their
# docstring.
_SECTIONS = [
    ("The recipe", "Recipe", "A name, source data and target data are enough; everything else has a default."),
    ("source", "Source", "Where knowledge comes from: data, models that exist, or both."),
    ("source.data and target.data", "Data", "Where the samples are and how they are packed."),
    ("split", "Split", "Shares of samples; they add up to 1, and none is 0. Where a folder has `train/`, `val/` or "
                       "`test/`, those are taken instead."),
    ("source.pretraining", "Pretraining", "How a source is trained; all keys of `training` too."),
    ("training", "Training", "The budget of each training on the target. What is not set follows from the size of the "
                             "training split."),
    ("strategies", "Strategy", "A list of names ([strategies](../explanation/strategies.md)) or of mappings with these "
                               "keys."),
    ("evaluation", "Evaluation", "How the result is judged ([statistics](../explanation/statistics.md))."),
    ("search", "Search", "What [`headstart search`](../how-to/search.md) varies; a run does not read it."),
]  # fmt: skip
# `target` has one key, which the recipe's own table explains.
_EXPLAINED = {"Target"}


def recipe_page() -> str:
    """Every key of a recipe: type, default and meaning."""
    from headstart.recipe.recipe import Recipe

    schema = Recipe.model_json_schema()
    definitions = {"Recipe": schema, **schema["$defs"]}
    definitions["Strategy"]["properties"] |= _settings_of_strategies()
    lines = [
        "# Recipe",
        "",
        "One YAML file describes one experiment. An unknown key, a wrong type or a value out of range is refused",
        "before any work starts. `headstart run RECIPE --set key.path=value` overrides a key.",
        "",
        "```yaml",
        (ROOT / "pipelines" / "recipes" / "digits.yaml").read_text().rstrip(),
        "```",
    ]
    inputs = _inputs()
    definitions |= {name: schema for _, name, _, schema in inputs}
    known = {name for _, name, _ in _SECTIONS} | {name for _, name, _, _ in inputs} | _EXPLAINED
    others = [
        (name, name, section.get("description", "").partition("\n")[0])
        for name, section in definitions.items()
        if name not in known and "properties" in section
    ]
    training = definitions.get("Training", {}).get("properties", {})
    for title, name, summary in [*_SECTIONS, *(each[:3] for each in inputs), *others]:
        keys = definitions.get(name, {}).get("properties", {})
        if name == "Pretraining":
            keys = {key: value for key, value in keys.items() if value != training.get(key)}
        if keys:
            lines += ["", f"## {title}", "", summary, "", *_table(name, definitions[name], keys)]
    return "\n".join(lines) + "\n"


def _inputs() -> list[tuple[str, str, str, dict[str, Any]]]:
    """The modalities' own sections, as `_SECTIONS` with a schema each."""
    from headstart.modalities import MODALITIES

    sections = {name: MODALITIES[name].input for name in MODALITIES.built_in}
    return [
        (
            f"data.input of modality {name}",
            section.__name__,
            f"What is read of a sample where the recipe says `modality: {name}`.",
            section.model_json_schema(),
        )
        for name, section in sections.items()
    ]


def _settings_of_strategies() -> dict[str, Any]:
    """The settings that single strategies have beside those of all."""
    from headstart.strategies import section

    members = getattr(section, "STRATEGIES", {}).values()
    return {
        key: value
        for member in members
        for key, value in member.model_json_schema()["properties"].items()
        if key not in section.Strategy.model_fields
    }


def policy_page() -> str:
    """Every key of a policy."""
    from headstart.tracking.policy import Policy

    schema = Policy.model_json_schema()
    keys = schema["properties"]
    defaults = {key: value["default"] for key, value in keys.items() if not isinstance(value.get("default"), dict)}
    return "\n".join(
        [
            "# Policy",
            "",
            "The gates of `headstart promote --policy FILE`, a YAML file. A gate whose limit is null is off.",
            "[Promote a model](../how-to/promotion.md) shows them at work.",
            "",
            *_table("Policy", schema, keys),
            "",
            "Without `--policy` these hold:",
            "",
            "```yaml",
            yaml.safe_dump(defaults, sort_keys=False).rstrip(),
            "```",
            "",
        ]
    )


def _table(name: str, section: Mapping[str, Any], keys: Mapping[str, Any]) -> list[str]:
    required = section.get("required", ())
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, value in keys.items():
        default = "required" if key in required else _default(value)
        meaning = value.get("description") or _meaning(name, key)
        rows.append(f"| `{key}` | {_cell(' or '.join(_types(value)))} | {_cell(default)} | {_cell(meaning)} |")
    return rows


def _meaning(name: str, key: str) -> str:
    """What a key without a description of its own means, by meanings.yaml; a key of that name elsewhere stands in."""
    found = _MEANINGS.get(name, {}).get(key)
    found = found or next((each[key] for each in _MEANINGS.values() if key in each), None)
    if not found:
        raise SystemExit(f"{name}.{key} has no meaning: give it Field(description=…), or a line in meanings.yaml")
    return str(found)


def _default(value: Mapping[str, Any]) -> str:
    given = value.get("default")
    if given is None or isinstance(given, dict):
        return "–"
    if isinstance(given, list):
        shown = [each.get("name") if isinstance(each, dict) else each for each in given]
        return ", ".join(f"`{each}`" for each in shown) or "none"
    return f"`{str(given).lower() if isinstance(given, bool) else given}`"


def _types(value: Mapping[str, Any]) -> Iterator[str]:
    """The types that a JSON schema allows, in words."""
    if "$ref" in value:
        yield "mapping"
    elif "anyOf" in value:
        for each in value["anyOf"]:
            if each.get("type") != "null":
                yield from _types(each)
    elif "enum" in value:
        yield ", ".join(f"`{each}`" for each in value["enum"])
    elif "const" in value:
        yield f"`{value['const']}`"
    elif value.get("type") == "array":
        yield "list of " + " or ".join(_types(value.get("items", {})))
    else:
        yield _scalar(value)


def _scalar(value: Mapping[str, Any]) -> str:
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    bounds = []
    if "minimum" in value and "maximum" in value:
        bounds.append(f"{value['minimum']:g} to {value['maximum']:g}")
    else:
        signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
        bounds += [f"{sign} {value[key]:g}" for key, sign in signs.items() if key in value]
    return " ".join([words.get(str(value.get("type")), "value"), *filter(None, [", ".join(bounds)])])


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


# The command line


def command_page() -> str:
    """Every command with its arguments, from argparse."""
    from headstart_pipelines.cli import _parser

    parser = _parser()
    (commands,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    summaries = {each.dest: each.help or "" for each in commands._choices_actions}
    lines = [
        "# Command line",
        "",
        "Each command has `--help`. Errors are sentences that name the cause and the remedy; exit status 2 means that",
        "the input is not usable, 1 that the work failed. Every command takes `--debug`, which shows the traceback of",
        "an error.",
        "",
        "| command | what it does |",
        "|---|---|",
        *(f"| [`{name}`](#{name}) | {_plain(summaries[name])} |" for name in commands.choices),
    ]
    for name, command in commands.choices.items():
        lines += ["", f"## {name}", "", *_command(name, command)]
    return "\n".join(lines) + "\n"


def _command(name: str, command: argparse.ArgumentParser) -> Iterator[str]:
    yield command.description or ""
    yield ""
    yield from ("| argument | meaning |", "|---|---|")
    for action in command._actions:
        if {"-h", "--debug"} & set(action.option_strings) or action.help == argparse.SUPPRESS:
            continue
        value = command._get_formatter()._format_args(action, str(action.metavar or action.dest.upper()))
        shown = ", ".join(action.option_strings) or value
        shown += f" {value}" if action.option_strings and action.nargs != 0 else ""
        yield f"| `{shown}` | {_plain(action.help or '')} |"
    example = (command.epilog or "").removeprefix("example:\n")
    yield from ("", "```console", "\n".join(line.removeprefix("  ") for line in example.splitlines()), "```")


def _plain(text: str) -> str:
    """A help text as Markdown that shows every character as it is."""
    return re.sub(r"([*_<>\[\]])", r"\\\1", _cell(text.replace("%%", "%")))


# Python


def python_page() -> str:
    """Every name that `import headstart` offers, from its signature and docstring."""
    import headstart

    functions = [name for name in headstart.__all__ if inspect.isfunction(getattr(headstart, name))]
    classes = [name for name in headstart.__all__ if inspect.isclass(getattr(headstart, name))]
    lines = [
        "# Python",
        "",
        "`import headstart as hs` takes no time: each name is imported when it is first used. The functions are those",
        "that the commands call. Errors are `hs.InputError` (nothing was started) and `hs.HeadstartError` (work",
        "failed), each a sentence with cause, place and remedy.",
        "",
        "```python",
        next(iter(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL))).rstrip(),
        "```",
    ]
    for name in functions:
        lines += ["", f"## {name}", "", *_documented(f"hs.{name}", getattr(headstart, name))]
    for name in classes:
        kind = getattr(headstart, name)
        lines += ["", f"## {name}", "", *_paragraphs(inspect.getdoc(kind) or "")]
        for member, value in vars(kind).items():
            if isinstance(value, property) and not member.startswith("_"):
                lines += ["", f"- `.{member}`: {_plain(inspect.getdoc(value) or '')}"]
        for member, value in vars(kind).items():
            if inspect.isfunction(value) and not member.startswith("_"):
                lines += ["", f"### {name}.{member}", "", *_documented(f".{member}", value)]
    return "\n".join(lines) + "\n"


def _documented(name: str, function: Callable[..., Any]) -> Iterator[str]:
    parameters = [each for each in inspect.signature(function).parameters.values() if each.name != "self"]
    signature = inspect.Signature([each.replace(annotation=inspect.Parameter.empty) for each in parameters])
    yield from ("```python", f"{name}{signature}", "```", "")
    yield from _paragraphs(inspect.getdoc(function) or "")


def _paragraphs(docstring: str) -> Iterator[str]:
    """A docstring in Google's style as Markdown: what Args and Raises list becomes a list."""
    for line in docstring.splitlines():
        if line in ("Args:", "Raises:"):
            yield from (f"**{line[:-1]}**", "")
        elif item := re.fullmatch(r"    (\w+): (.*)", line):
            yield f"- `{item[1]}`: {_plain(item[2])}"
        elif line.startswith("     "):
            yield f"  {_plain(line)}"
        else:
            yield _plain(line.strip())
