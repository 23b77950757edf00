"""`headstart lineage`: what a model came from, and what came from it."""

import argparse
import json

from headstart.terminal import printable, waiting
from headstart_pipelines.commands.arguments import JSON, WORKSPACE, Command, either, option
from headstart_pipelines.commands.tracking import connect


def _lineage(options: argparse.Namespace) -> None:
    uri = (
        options.model if "://" in options.model or options.model.startswith("models:/") else f"models:/{options.model}"
    )
    with waiting("reading the registry"):
        from headstart.tracking.lineage import champions, lineage, mermaid
        from headstart_pipelines import display

        client = connect(options.workspace)
        family = {} if options.champions else lineage(client, uri)
        crowned = champions(client, uri) if options.champions else []
    if options.champions:
        nothing = f"No champion descends from {options.model}."
        display.show_list(crowned, display.champions_table, nothing, as_json=options.json)
        return
    if options.json:
        print(json.dumps(family, indent=2))
    elif options.mermaid:
        print(printable(mermaid(family), keep="\n"))
    else:
        display.console().print(display.lineage_tree(family))


COMMANDS = (
    Command(
        "lineage",
        _lineage,
        "show what a model came from and what came from it",
        "headstart lineage digits-target/1\n  headstart lineage torchvision://vgg16/IMAGENET1K_V1 --champions",
        (
            option("model", metavar="MODEL[/VERSION]", help="a registered model, its champion or latest version unless "
                   "one is given, or the address of a source outside of the registry"),
            option("--champions", action="store_true", help="list the champions that descend from it"),
            either(JSON, option("--mermaid", action="store_true", help="print a Mermaid flowchart")),
            WORKSPACE,
        ),
    ),
)  # fmt: skip
