"""Declarations of commands, and the options that several of them share."""

import argparse
import difflib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.errors import InputError, shortened
from headstart.workspace import find_workspace

_PACKAGE = Path(__file__).parents[1]
UI_PORT = 5000

Option = Callable[["argparse._ActionsContainer"], object]
"""Adds an argument, or several that belong together, to a parser."""


@dataclass(frozen=True)
class Command:
    """A command: what carries it out, its line in the list of commands, an example, and what it takes."""

    name: str
    function: Callable[[argparse.Namespace], None]
    summary: str
    example: str
    options: tuple[Option, ...]

    def add_to(self, commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
        """Adds the command to a parser."""
        parser = commands.add_parser(
            self.name,
            help=self.summary,
            description=self.summary[0].upper() + self.summary[1:] + ".",
            epilog=f"example:\n  {self.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(command=self.function, debug=False)
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
        for option in self.options:
            option(parser)


def option(*names: str, **settings: Any) -> Option:
    """An argument, as argparse's `add_argument` takes it."""
    return lambda parser: parser.add_argument(*names, **settings)


def either(*options: Option) -> Option:
    """Options of which one at most may be given."""
    return lambda parser: _add_all(parser.add_mutually_exclusive_group(), options)


def group(title: str, description: str, *options: Option) -> Option:
    """Options under a title of their own."""
    return lambda parser: _add_all(parser.add_argument_group(title, description), options)


def recipe(**settings: Any) -> tuple[Option, ...]:
    """RECIPE and --set."""
    return (
        option("recipe", type=_recipe_file, metavar="RECIPE", help="the experiment's YAML file, or the name of one "
               f"that comes with headstart: {', '.join(names('recipes'))}", **settings),
        option("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the recipe, for "
               "example target.data.labels_per_class=10; may be repeated"),
    )  # fmt: skip


def placement(*, default: str) -> tuple[Option, ...]:
    """--profile, --image and --allow-tag."""
    return (
        option("--profile", type=_profile_file, metavar="FILE", help="what the cluster gives each step, a YAML file, "
               f"or the name of one that comes with headstart: {', '.join(names('profiles'))}"),
        option("--image", metavar="NAME@sha256:…", help=f"the image of every step (default {default})"),
        option("--allow-tag", action="store_true", help="take an image without a digest; nothing is reused then, as "
               "its content may change"),
    )  # fmt: skip


def meant(word: str, known: Iterable[str]) -> str:
    """The known word that a mistyped one is likely to mean, in brackets; empty where none is close."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def names(kind: str) -> list[str]:
    """The names of the `recipes` or `profiles` that come with headstart."""
    return sorted(path.stem for path in (_PACKAGE / kind).glob("*.yaml"))


def bringing_data(recipe: Path | None) -> list[str]:
    """The commands at the head of a recipe that comes with headstart, which bring its data; none of other recipes."""
    if recipe is None or recipe.parent != _PACKAGE / "recipes":
        return []
    head = itertools.takewhile(lambda line: line.startswith("#"), recipe.read_text(encoding="utf-8").splitlines())
    return [line[1:].strip() for line in head if line.startswith("#     ")]


def _recipe_file(text: str) -> Path:
    return _file(text, "recipes")


def _profile_file(text: str) -> Path:
    return _file(text, "profiles")


def _file(text: str, kind: str) -> Path:
    """A YAML file, or where there is none of that name, the one that comes with headstart under it."""
    path = Path(text)
    if path.suffix or len(path.parts) != 1 or path.is_file():
        return path
    shipped = _PACKAGE / kind / f"{text}.yaml"
    if not shipped.is_file():
        hint = meant(text, names(kind))
        raise argparse.ArgumentTypeError(
            f"{text} is neither a file nor one of headstart's {kind}: {', '.join(names(kind))}{hint}"
        )
    return shipped


def folder(text: str) -> Path:
    """A folder that exists or can be made."""
    path = Path(text)
    try:
        is_other = path.exists() and not path.is_dir()
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"{shortened(text)} cannot be a folder: {error.strerror}; give another"
        ) from None
    if is_other:
        raise argparse.ArgumentTypeError(f"{text} is a file; give a folder")
    return path


def count(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


JSON = option("--json", action="store_true", help="print JSON")
MODEL = option("model", metavar="MODEL", help="a registered model's name")
MODEL_URI = option("model", metavar="MODEL_URI", help="models:/name@alias, models:/name/version, "
                   "torchvision://model/weights, or a bundle's path or s3:// URI")  # fmt: skip
TASK = option("--task", metavar="auto|single_label|multi_label|regression", help="what a label is: a class, several "
              "or a number (default auto: a class, and labels that look like something else are refused)")  # fmt: skip
LABEL_BUDGET = option("--label-budget", type=int, metavar="N", help="of numbers or several labels: keep N labelled "
                      "samples in all beside the test's")  # fmt: skip
INPUT = option("--input", action="append", default=[], metavar="KEY=VALUE", help="a key of the recipe's data.input, "
               "for example size=64; may be repeated (default: what the models read)")  # fmt: skip
CLOCK = (
    option("--cron", metavar="WHEN", help="minute, hour, day, month and weekday, in UTC unless the server's "
           "administrator chose another time zone"),
    option("--timezone", metavar="ZONE", help="the zone of --cron, whose clocks must not change, such as Asia/Tokyo"),
)  # fmt: skip
REASON = option("--reason", metavar="TEXT", help="why, for the record")
RUN = option("run", metavar="RUN", help="a run's name or id")
LOCAL = option("--workspace", type=folder, metavar="DIR", help="the workspace of runs on this machine (default: "
                      "HEADSTART_WORKSPACE, else the nearest .headstart upward)")  # fmt: skip
AMOUNT = either(
    option("-q", "--quiet", action="store_true", help="only the result"),
    option("-v", "--verbose", action="store_true", help="stream the steps' logs"),
)


def WORKSPACE(parser: "argparse._ActionsContainer") -> None:  # noqa: N802 - an option like those above
    """--workspace, with the one that is used where it is not given."""
    parser.add_argument(
        "--workspace", type=folder, default=find_workspace(), metavar="DIR", help="where runs keep artifacts, cache, "
        "logs and, unless MLFLOW_TRACKING_URI is set, the MLflow store (default: HEADSTART_WORKSPACE, else the nearest "
        ".headstart upward)"
    )  # fmt: skip


def given_input(options: argparse.Namespace) -> dict[str, Any]:
    """What --input and --size say of the recipe's `data.input`; InputError for what is no KEY=VALUE."""
    from headstart import yaml_text

    given: dict[str, Any] = {} if options.size is None else {"size": options.size}
    for text in options.input:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise InputError(f"--input {text}: write key=value, for example size=64.")
        try:
            given[key] = yaml_text.parse(value)
        except yaml_text.UnreadableText as error:
            raise InputError(f"--input {text}: the value is not valid YAML ({error}).") from None
    return given


def _add_all(parser: "argparse._ActionsContainer", options: tuple[Option, ...]) -> None:
    for each in options:
        each(parser)
