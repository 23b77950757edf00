"""`headstart clean`: what a workspace holds that nobody needs any more."""

import argparse
import json
from collections import defaultdict

from headstart.terminal import waiting
from headstart_pipelines.commands.arguments import JSON, WORKSPACE, Command, either, option
from headstart_pipelines.commands.tracking import connect

_DAYS = 30.0


def _clean(options: argparse.Namespace) -> None:
    with waiting(f"looking through {options.workspace}"):
        from rich.table import Column

        from headstart_pipelines import display
        from headstart_pipelines.clean import find_waste, remove

        waste = find_waste(connect(options.workspace), options.workspace, days=options.days)
    total = sum(each.size for each in waste)
    freed = remove(waste, options.workspace) if options.remove else 0
    if options.json:
        rows = [{"path": str(each.path), "kind": each.kind, "bytes": each.size, "days": each.age} for each in waste]
        print(json.dumps({"removed": options.remove, "bytes": total, "waste": rows}, indent=2))
        return
    if not waste:
        print(f"Nothing in {options.workspace} can go that has not changed for {options.days:g} days.")
        return
    groups: dict[str, list[int]] = defaultdict(list)
    for each in waste:
        groups[each.kind].append(each.size)
    table = display.table("what", Column("how many", justify="right"), Column("size", justify="right"))
    for kind, sizes in sorted(groups.items(), key=lambda item: -sum(item[1])):
        table.add_row(display.plain(kind), str(len(sizes)), _shown(sum(sizes)))
    display.console().print(table)
    if options.remove:
        print(f"\n{_shown(freed)} are removed.")
    else:
        print(f"\n{_shown(total)} can go; nothing was removed. With --remove it is; a run makes again what it needs.")


def _shown(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


COMMANDS = (
    Command(
        "clean",
        _clean,
        "show what a workspace holds that nobody needs any more, and remove it",
        "headstart clean --days 7\n  headstart clean --days 7 --remove",
        (
            option("--days", type=float, default=_DAYS, metavar="N", help="what has not changed for so long (default "
                   f"{_DAYS:g})"),
            either(
                option("--dry-run", action="store_true", help="show sizes only (the default)"),
                option("--remove", action="store_true", help="remove it: outputs of steps, features, checkpoints and "
                       "packed data sets that no registered version refers to, never models, runs, logs or reports"),
            ),
            JSON,
            WORKSPACE,
        ),
    ),
)  # fmt: skip
