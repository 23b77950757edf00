"""What several commands take."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headstart.errors import shortened

WORKSPACE = Path(".headstart")
UI_PORT = 5000


class Commands:
    """The commands of the command line, as a parser collects them."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        self, name: str, function: Callable[[argparse.Namespace], None], summary: str, example: str
    ) -> argparse.ArgumentParser:
        """Adds the command that `function` carries out, and returns its parser."""
        command: argparse.ArgumentParser = self._commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(command=function)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return command


def workspace(command: argparse.ArgumentParser) -> None:
    """--workspace."""
    command.add_argument(
        "--workspace",
        type=folder,
        default=WORKSPACE,
        metavar="DIR",
        help="where runs keep artifacts, cache, logs and, unless MLFLOW_TRACKING_URI is set, the MLflow store "
        f"(default {WORKSPACE})",
    )


def recipe(command: argparse.ArgumentParser, **options: Any) -> None:
    """RECIPE and --set."""
    command.add_argument("recipe", type=Path, metavar="RECIPE", help="the experiment's YAML file", **options)
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the recipe, for example target.data.labels_per_class=10; may be repeated",
    )


def placement(command: argparse.ArgumentParser, *, default: str) -> None:
    """--profile, --image and --allow-tag."""
    command.add_argument(
        "--profile", type=Path, metavar="FILE", help="what the cluster gives each step, a YAML file; see infra/profiles"
    )
    command.add_argument("--image", metavar="NAME@sha256:…", help=f"the image of every step (default {default})")
    command.add_argument("--allow-tag", action="store_true", help="take an image without a digest; nothing is reused "
                         "then, as its content may change")  # fmt: skip


def model(command: argparse.ArgumentParser) -> None:
    """MODEL_URI."""
    command.add_argument(
        "model",
        metavar="MODEL_URI",
        help="models:/name@alias, models:/name/version, torchvision://model/weights, or a bundle's path or s3:// URI",
    )


def as_json(command: argparse.ArgumentParser) -> None:
    """--json."""
    command.add_argument("--json", action="store_true", help="print JSON")


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
