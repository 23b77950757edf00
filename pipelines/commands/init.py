"""`headstart init`: a first recipe for a folder."""

import argparse
import shlex
from pathlib import Path

from headstart.errors import InputError
from headstart_pipelines.commands.arguments import Command, option


def _init(options: argparse.Namespace) -> None:
    from headstart.recipe.draft import draft_recipe
    from headstart.recipe.recipe import load_recipe
    from headstart.storage.local import write_text

    draft = draft_recipe(options.data, options.source)
    path = options.output or Path(f"{draft.name}.yaml")
    if path.exists():
        raise InputError(f"{path} exists; name another file with -o, or remove it.")
    write_text(path, draft.text)
    load_recipe(path)
    print(draft.text, end="")
    quoted = shlex.quote(str(path))
    print(f"\n{path} is written. Next: headstart check {quoted}, then headstart run {quoted}")


COMMANDS = (
    Command(
        "init",
        _init,
        "look at a folder and write a commented recipe for it",
        "headstart init photos/site-b --source photos/site-a",
        (
            option("data", metavar="DATA_URI", help="the target: a folder with one folder a class, or what "
                   "else prepare takes"),
            option("--source", metavar="URI", help="what to start from: data to pretrain on, or a model (default: "
                   "torchvision's ResNet-18 for pictures)"),
            option("-o", "--output", type=Path, metavar="FILE", help="the recipe (default: the folder's name)"),
        ),
    ),
)  # fmt: skip
