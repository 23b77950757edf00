"""`headstart diff`: what changed from one registered version to another."""

import argparse
import json
from typing import TYPE_CHECKING

from headstart.terminal import waiting
from headstart_pipelines.commands.arguments import JSON, WORKSPACE, Command, folder, option

if TYPE_CHECKING:
    from rich.table import Table

    from headstart.tracking.difference import Difference

# The classes whose recall moved most, and the characters of a setting.
_SHOWN, _LONG = 10, 60


def _diff(options: argparse.Namespace) -> None:
    with waiting(f"comparing {options.one} with {options.other}"):
        from headstart.api.registry import diff
        from headstart_pipelines import display

        found = diff(options.one, options.other, data=options.data, workspace=options.workspace)
    if options.json:
        print(json.dumps(found.to_dict(), indent=2))
        return
    console = display.console()
    if found.settings:
        console.print(_settings(found))
    else:
        console.print("Both were made with the same settings.")
    if found.classes:
        console.print(_classes(found))
    console.print(display.verdict(found.sentence), highlight=False)


def _settings(found: "Difference") -> "Table":
    from headstart_pipelines import display

    table = display.table("made with", found.one, found.other)
    for each in found.settings:
        table.add_row(display.plain(each.name), *(display.plain(_short(value)) for value in (each.one, each.other)))
    return table


def _short(value: str | None) -> str:
    value = value or ""
    return value if len(value) <= _LONG else f"{value[: _LONG - 1]}…"


def _classes(found: "Difference") -> "Table":
    from rich.table import Column

    from headstart_pipelines import display

    columns = [Column(name, justify="right") for name in ("samples", f"recall {found.one}", found.other, "change")]
    table = display.table("class", *columns)
    moved = sorted(found.classes, key=lambda each: -abs(each.other - each.one))
    for each in moved[:_SHOWN]:
        change = f"{each.other - each.one:+.3f}"
        table.add_row(display.plain(each.name), f"{each.samples:,}", f"{each.one:.3f}", f"{each.other:.3f}", change)
    if len(moved) > _SHOWN:
        table.caption = f"the {_SHOWN} of {len(moved):,} classes that moved most"
    return table


_VERSION = "models:/name@alias, models:/name/version, name/version, or a name: its champion, else its latest version"

COMMANDS = (
    Command(
        "diff",
        _diff,
        "show what changed from one version to another, and whether it is better",
        "headstart diff digits-target/1 digits-target/2",
        (
            option("one", metavar="VERSION", help=_VERSION),
            option("other", metavar="VERSION", help="the one that it is compared with"),
            option("--data", type=folder, metavar="DIR", help="the packed data set that the second was tested on, "
                   "where that is not where it was"),
            JSON,
            WORKSPACE,
        ),
    ),
)  # fmt: skip
