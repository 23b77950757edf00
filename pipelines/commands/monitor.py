"""`headstart monitor`: whether a model in use still meets what it was tested on."""

import argparse
import json
from typing import TYPE_CHECKING

from headstart.terminal import waiting
from headstart_pipelines.commands.arguments import JSON, WORKSPACE, Command, folder, option

if TYPE_CHECKING:
    from rich.table import Table

    from headstart.judging.monitoring import Monitoring

# The shares of the classes that moved most.
_SHOWN = 10


def _monitor(options: argparse.Namespace) -> None:
    given = {} if options.tolerance is None else {"tolerance": options.tolerance}
    with waiting(f"comparing {options.data} with what {options.model} was tested on"):
        from headstart.api.registry import monitor
        from headstart_pipelines import display

        found = monitor(options.model, options.data, reference=options.reference, workspace=options.workspace, **given)
    if options.json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        console = display.console()
        console.print(_table(found))
        console.print(display.verdict(found.sentence), highlight=False)
        refused = [("refused", f"{found.refused} samples that cannot be read")] if found.refused else []
        chance = f"{found.distance:.4f}, as large by chance with p = {found.distance_p:.3f}"
        display.show_facts(console, [("distance", chance), *refused])
    if options.fail and found.state != "as before":
        raise SystemExit(1)


def _table(found: "Monitoring") -> "Table":
    from rich.table import Column

    from headstart_pipelines import display

    table = display.table("class", Column("before", justify="right"), Column("estimated now", no_wrap=True))
    moved = sorted(found.classes, key=lambda each: -abs(each.now.value - each.before))
    for each in moved[:_SHOWN]:
        now = f"{each.now.value:.3f} \\[{each.now.low:.3f}, {each.now.high:.3f}]"
        table.add_row(display.plain(each.name), f"{each.before:.3f}", now)
    return table


COMMANDS = (
    Command(
        "monitor",
        _monitor,
        "say whether new samples are as before, drifted, or the model worse on them",
        "headstart monitor models:/digits-target@champion photos/new --fail",
        (
            option("model", metavar="MODEL", help="models:/name@alias, models:/name/version, or a registered model's "
                   "name: its champion, else its latest version"),
            option("data", metavar="DATA_URI", help="new samples; where folders are classes, the metric is measured"),
            option("--reference", type=folder, metavar="DIR", help="the packed data set that it was tested on, where "
                   "that is not where it was"),
            option("--tolerance", type=float, metavar="SHARE", help="how far above 0.5 the area under the curve of a "
                   "classifier that tells new from old samples may surely be (default 0.1)"),
            option("--fail", action="store_true", help="end with status 1 where it is not as before"),
            JSON,
            WORKSPACE,
        ),
    ),
)  # fmt: skip
