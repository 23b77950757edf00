"""`headstart report`: where a run's report is, or the page itself."""

import argparse
import webbrowser

from headstart.errors import InputError
from headstart_pipelines.commands.arguments import WORKSPACE, Command, option


def _report(options: argparse.Namespace) -> None:
    from headstart_pipelines.local_runs import report_of

    path = report_of(options.workspace, options.run)
    print(path)
    if options.open and not webbrowser.open(path.absolute().as_uri()):
        raise InputError(f"No browser could be opened; open {path} yourself.")


COMMANDS = (
    Command(
        "report",
        _report,
        "say where the latest report is, or open it",
        "headstart report digits --open",
        (
            option("run", nargs="?", metavar="RUN", help="a recipe's name or a run's (default: the latest run)"),
            option("--open", action="store_true", help="open it in the browser"),
            WORKSPACE,
        ),
    ),
)
