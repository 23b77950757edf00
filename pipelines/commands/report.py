"""`headstart report`: where a run's report is, or the page itself."""

import argparse
import webbrowser

from headstart.errors import InputError
from headstart_pipelines.commands.arguments import WORKSPACE, Command, option


def _report(options: argparse.Namespace) -> None:
    folder = options.workspace / "reports"
    # A run is called by its recipe's name and its time.
    found = sorted(folder.glob("*.html"), key=lambda path: path.stat().st_mtime)
    chosen = [path for path in found if options.run in (None, path.stem, path.stem.rsplit("-", 3)[0])]
    if not chosen:
        known = ", ".join(path.stem for path in reversed(found[-5:])) or "none"
        which = f" of {options.run}" if options.run else ""
        raise InputError(f"There is no report{which} in {folder}; the latest there are: {known}.")
    path = chosen[-1]
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
